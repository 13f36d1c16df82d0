"""Delivery to the mail servers that the recipients' domains name in the DNS, without a login."""
