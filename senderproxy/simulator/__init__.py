"""The simulator: a provider's submission server to practise against, embedded in the program.

It behaves as IONOS was seen to behave (or, told so, as another kind of provider), on loopback, with certificates of
its own. It is written apart from the listener and the delivery on purpose: it shares no line with either, so what
both get wrong together it still notices. The demo runs on it, and so do the tests.
"""
