"""Read the adapters of any trainer."""
