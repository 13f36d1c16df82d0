"""The smarthost of the benchmark: its own process, with minimal work and complete counts."""
