"""The accounts in the vault. The only package that opens the vault."""
