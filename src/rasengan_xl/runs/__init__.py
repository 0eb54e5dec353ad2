"""What a run leaves behind: its folder, its records and where it was made."""
