"""Removes each safeguard in turn and checks that a test fails."""
