"""One module per migration, oldest first. Each works on SQLite and PostgreSQL, and what was released never changes."""
