"""Places the data of each service: in databases, on replicas and in the cache ring."""
