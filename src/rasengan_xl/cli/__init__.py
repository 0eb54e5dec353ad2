"""The verbs of the command line; the only layer that prints."""
