"""Metrics in Prometheus' text format: the list of the series, the counts of messages, the text."""
