"""Building a projection again, beside the one that is read, and swapping the two."""
