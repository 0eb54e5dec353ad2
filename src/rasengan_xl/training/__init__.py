"""One run, from settings to a saved adapter."""
