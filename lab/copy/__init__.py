"""The copy of the decentralized users: another schema, kept up to date by events alone."""
