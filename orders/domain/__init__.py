"""The domain model of orders: plain Python without framework, clock or database."""
