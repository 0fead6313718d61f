"""Measures each technique with and without it, on private servers: `./dev lab`.

The same workload runs through every way of `lab/`. docs/techniques.md has the figures and explains
the measurements.
"""
