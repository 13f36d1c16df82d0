"""Ways to install senderproxy."""
