"""Choose the account that carries a message."""
