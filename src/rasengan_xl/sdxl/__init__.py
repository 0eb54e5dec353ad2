"""The base model: loading its parts, encoding with them, and the loss it was trained with."""
