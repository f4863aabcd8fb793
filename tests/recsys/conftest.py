"""Hypothesis for all tests of the library; this file also lets them import `shops`."""

from hypothesis import settings

settings.register_profile("recsys", deadline=None, max_examples=50)
settings.load_profile("recsys")
