"""Where each service's data lives, and who may touch it."""
