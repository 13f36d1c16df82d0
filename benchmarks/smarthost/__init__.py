"""The smarthost of the benchmark: an own process that does as little as can be, and keeps count of all of it."""
