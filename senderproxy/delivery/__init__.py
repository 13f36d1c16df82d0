"""Take one message to one account's upstream: the only room that says aiosmtplib."""
