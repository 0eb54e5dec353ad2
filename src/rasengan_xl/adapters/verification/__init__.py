"""Prove that an adapter is whole, and that it is really applied."""
