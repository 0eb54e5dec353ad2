"""What a run depends on: frozen settings and the recipes they come from."""
