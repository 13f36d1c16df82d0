"""Simulator: a provider's submission server on loopback, for the demo and the tests.

It behaves as IONOS was observed to behave (or as another kind of provider), with certificates of its own. It shares no
code with the listener and the delivery, so that it finds mistakes that both have in common.
"""
