"""Rebuild mini SDXL from nothing: draw its world, then train tokenizers, text, VAE and UNet."""
