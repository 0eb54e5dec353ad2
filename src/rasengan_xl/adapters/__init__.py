"""Low-rank adapters: attach, count, save and load."""
