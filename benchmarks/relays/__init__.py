"""The relays under test, one module each: configuration for this job, start and stop.

`port` is their interface; `registry` lists them.
"""
