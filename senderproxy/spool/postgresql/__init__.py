"""The spool in a PostgreSQL database that several instances share."""
