"""A simulated flash-sale shop, generated from a seed.

`shop.build_shop` writes it; `truth.true_utilities` is for evaluation alone. Nothing is imported here, so that
reading the settings does not load the generator.
"""
