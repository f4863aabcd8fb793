"""The Python API for notebooks: a shop, its tables, nights, backtests and pages, by the same code as the commands."""

from workbench.shop import Shop

__all__ = ["Shop"]
