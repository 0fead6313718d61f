"""accounts: users and their credit, kept as rows, every change announced through the outbox."""
