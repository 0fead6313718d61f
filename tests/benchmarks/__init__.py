"""Measures the cost and the throughput of the outbox on private servers: `./dev bench`.

Each figure and its limit are measured in the same run by turns (A B A B), so that changes of the
machine affect both. docs/benchmarks.md describes the measurements.
"""
