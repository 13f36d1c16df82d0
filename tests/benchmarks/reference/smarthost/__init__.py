"""The smarthost in Python, with complete counts."""
