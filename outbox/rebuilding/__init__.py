"""Rebuilds a projection next to the projection in use, and swaps the two."""
