"""Signatures with private keys. The only user of `cryptography` beside the vault."""
