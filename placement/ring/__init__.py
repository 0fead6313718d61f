"""The cache ring: a Django cache backend over several Redis nodes."""
