"""The embedded world: portraits with known attributes, drawn in several hands."""
