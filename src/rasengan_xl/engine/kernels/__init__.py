"""Kernels in Triton: one pass over memory where PyTorch takes several."""
