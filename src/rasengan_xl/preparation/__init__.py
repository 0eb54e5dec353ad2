"""A dataset checked, encoded and accounted for, picture by picture."""
