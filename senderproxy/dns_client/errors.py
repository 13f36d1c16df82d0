"""Error of a DNS query. PURE.

A module of its own: functions that take a query as an argument handle the error without dnspython.
"""


class LookupFailed(Exception):
    """There was no reply: the network or the name server is at fault, not the domain."""
