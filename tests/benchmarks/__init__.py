"""Measures the cost and the throughput of the outbox on private servers: `./dev bench`.

Each run alternately measures a figure and its limit, which is the figure of the simplest code that
does the same work. So a change in the speed of the machine affects both. docs/benchmarks.md
describes the measurements.
"""
