"""What the mechanism costs and carries, measured on private servers: `./dev bench`.

Every figure stands beside its limit, measured in the same run by turns (A B A B), so that a
machine that drifts hits both. See docs/benchmarks.md for what is measured, and how.
"""
