"""Checks that two services hold the same data: waits, common positions, checksums, backfill."""
