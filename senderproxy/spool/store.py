"""SqliteSpool: relay.ports.Spool on one SQLite database."""

import sqlite3  # noqa: F401
