"""The embedded default: a real, very small SDXL and the world it draws."""

from pathlib import Path

MODEL_FOLDER = Path(__file__).parent / "model"
"""Mini SDXL, a diffusers folder."""
