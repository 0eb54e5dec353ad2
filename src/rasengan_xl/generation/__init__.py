"""Prompts and seeds in, pictures out: base beside adapted."""
