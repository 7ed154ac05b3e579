"""The operations of the store, each written once in SQL that SQLite and PostgreSQL share. A driver supplies the
transactions."""
