"""The accounts in the vault. The only room that opens it."""
