"""Write adapters in the forms that other programs read."""
