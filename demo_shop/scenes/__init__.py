"""Painted holiday photos: each kind of picture has its painter, and a second kind can be worked into a photo.

`photo.draw_photo` draws one. `kind` says what a painter is, `canvas` what it paints with; `props` and
`plants` what is in them; the other modules hold the painters.
"""
