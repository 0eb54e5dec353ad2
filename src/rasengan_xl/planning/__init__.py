"""What a run will need of a GPU, and how long it will take, before anything is loaded."""
