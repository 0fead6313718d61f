"""An app for tests only, whose command `flush` truncates only the tables that have rows."""
