"""How a frozen UNet and its adapter compute: in few kernels, keeping little."""
