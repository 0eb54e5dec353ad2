"""Where else a run's figures may be followed: TensorBoard, Weights & Biases, trackio."""
