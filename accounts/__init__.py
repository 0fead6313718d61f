"""accounts: users and their credit, stored as rows; each change is announced by an event."""
