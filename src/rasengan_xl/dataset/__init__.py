"""Pictures planned, split, cut, encoded once and drawn in a fixed order."""
