"""What is measured of arms: loss, pictures, captions and cost."""
