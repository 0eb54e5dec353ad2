"""Captioned pictures: read, split, cropped, encoded once and drawn in a fixed order."""
