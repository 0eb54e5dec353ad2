"""What others get to see of a run: its card, its pictures, and its upload to the hub."""
