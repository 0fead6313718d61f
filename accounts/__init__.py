"""accounts: users and their credit, stored as rows. An event announces each change."""
