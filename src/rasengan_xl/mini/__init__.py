"""The embedded default: a real, very small SDXL and the world it draws."""
