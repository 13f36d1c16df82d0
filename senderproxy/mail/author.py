"""From: field -> the author's address, or why there is none."""
