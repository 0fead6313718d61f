"""Checks that two sides hold the same data: waits, coverage, checksums, backfill."""
