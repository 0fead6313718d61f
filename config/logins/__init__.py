"""Counts failed log-ins and refuses more of them, for the API and the back office."""
