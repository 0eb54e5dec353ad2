"""The numbers and pictures of a comparison as one self-contained page."""
