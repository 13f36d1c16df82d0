"""The office of the benchmark: an own process that hands in mail over many connections and notes how long each took."""
