"""Delivery status notifications: reports to the author about failures and delays (RFC 3464). PURE."""
