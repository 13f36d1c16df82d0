"""Delivery without a login: to smarthosts that know our address or certificate, the internal server, MX hosts."""
