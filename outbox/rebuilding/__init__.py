"""Rebuilds a projection next to the one in use, and swaps the two."""
