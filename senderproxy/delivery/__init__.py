"""Delivery to one account's upstream: sessions, pool, account states. The only package that imports aiosmtplib."""
