"""Consumes streams: readers, positions, parked sequences and the assignment of partitions."""
