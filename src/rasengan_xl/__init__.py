"""Fine-tune SDXL on a picture style with LoRA, QLoRA and DoRA, and compare the methods."""
