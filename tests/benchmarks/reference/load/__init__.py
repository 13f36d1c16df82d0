"""The load in Python: submits mail over many connections and measures each message."""
