"""Captioned pictures wherever they lie: found, looked at once, decoded to upright sRGB."""
