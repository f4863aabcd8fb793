"""Tests of what a shop adds to the engine; needs pytest."""

from recsys.testing.contract import RecommenderContract

__all__ = ["RecommenderContract"]
