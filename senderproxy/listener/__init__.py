"""SMTP server for the internal server, devices and programs. The only package that imports aiosmtpd."""
