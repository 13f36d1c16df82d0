"""The relays under test, one module each: how it is set up for this job, started and stopped.

`port` says what all of them are; `shelf` lists them.
"""
