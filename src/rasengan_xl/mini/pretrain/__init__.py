"""Rebuild mini SDXL from nothing: draw its world, train tokenizers, text, VAE, UNet and reader."""
