"""Make one adapter of several."""
