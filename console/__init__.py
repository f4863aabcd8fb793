"""Pages in a browser for those who work with the recommendations."""
