"""How much of a small weight change is left when it is rounded together with its weight.

python benchmarks/swallowed_changes.py
"""

import torch

RELATIVE_CHANGES = (1e-4, 3e-4, 1e-3, 2e-3, 4e-3, 1e-2, 3e-2)
WIDTH, RANK = 640, 16


def main() -> None:
    """Print, by type and size of the change, what is kept of it along itself."""
    torch.manual_seed(0)
    for dtype in (torch.bfloat16, torch.float16):
        weight = (torch.randn(WIDTH, WIDTH) * WIDTH**-0.5).to(dtype).float()
        for relative in RELATIVE_CHANGES:
            change = torch.randn(WIDTH, RANK) @ torch.randn(RANK, WIDTH)
            change *= relative * weight.norm() / change.norm()
            left = (weight + change).to(dtype).float() - weight
            kept = float((left * change).sum() / change.square().sum())
            print(f"{dtype} {relative:g} kept {kept:.2f}")


if __name__ == "__main__":
    main()
