"""Whose account carries this? Pure: same inputs, same answer."""
