"""Finding out whether two sides hold the same data: waits, coverage, checksums, backfill."""
