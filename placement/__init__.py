"""Stores the data of each service: databases, replicas and the cache ring."""
