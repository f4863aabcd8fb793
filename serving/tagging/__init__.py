"""The service that tags photos with the tagger of a taxonomy, over HTTP."""
