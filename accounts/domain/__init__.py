"""What a user and its credit mean. Plain Python: no framework, no clock, no database."""
