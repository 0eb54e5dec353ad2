"""What other programs make of a file that was written for them, by their own formulas."""
