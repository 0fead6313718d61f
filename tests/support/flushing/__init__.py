"""An app for tests only: a `flush` whose cost depends on the written tables, not on all tables."""
