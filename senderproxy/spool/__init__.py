"""Where messages wait: the only room that says sqlite3."""
