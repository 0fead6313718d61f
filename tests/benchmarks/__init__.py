"""Measures the cost and the throughput of the outbox on private servers: `./dev bench`.

Each run measures a figure and its limit by turns (A B A B), so that a change in the speed of the
machine affects both. docs/benchmarks.md describes the measurements.
"""
