"""Each operation of the store, once, in SQL that SQLite and PostgreSQL share. A driver supplies the transaction."""
