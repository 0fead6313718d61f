"""The domain model of users and credit: plain Python without framework, clock or database."""
