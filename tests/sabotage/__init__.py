"""Removes one safeguard at a time and checks that a test fails."""
