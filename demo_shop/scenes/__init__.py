"""Painted holiday photos: each kind of picture has a painter, and a second kind can be worked into a photo.

`demo_shop.painting.draw_photo` paints one. `kind` defines a painter, `canvas` and `noise` its tools, `light` the light;
`props` and `plants` hold what several pictures have; the other modules hold the painters.
"""
