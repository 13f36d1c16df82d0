"""Accounts, providers and the choice of the account for a message. PURE."""
