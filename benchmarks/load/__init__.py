"""The load of the benchmark: its own process that submits mail over many connections and measures each message."""
