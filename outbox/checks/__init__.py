"""The system checks of the outbox. Importing this package registers them.

- `options`: the settings (E002, W001, W007);
- `models`: the declared tables (E001, E010 to E013);
- `consumers`: the declared consumers (E005 to E007, E014, W002, W003);
- `database`: sessions, sequences and partitions (E003, E004, E008), with `check --database ALIAS`;
- `catalog`: tables and indexes (E015, E016), with `check --deploy --database ALIAS`. `migrate` runs
  the other checks of the database first, and must run before these ones succeed;
- `servers`: what the servers and streams report (E017, E018, W004 to W007), in `check-setup`.

A model without the app is E009 (`installed`).
"""

from . import catalog, consumers, database, models, options

__all__ = ["catalog", "consumers", "database", "models", "options"]
