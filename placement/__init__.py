"""Where the data of each service is stored: databases, replicas and the cache ring."""
