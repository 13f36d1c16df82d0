"""The SQLite engine of the spool: one database, one writer. The only package that imports sqlite3."""
