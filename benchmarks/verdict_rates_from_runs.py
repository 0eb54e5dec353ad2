"""How often verdicts are false between copies of one arm, by the losses of its real runs.

    rasengan compare benchmarks/planted.toml --set 'seeds=[0,1,2,3,4,5,6,7,8,9,10,11]' --out planted
    python benchmarks/verdict_rates_from_runs.py planted

Runs of one arm, dealt out at random to arms that are called differently, differ by luck alone: any
`better` or `worse` between them is false.  Dealt out within two arms that do differ, it is right.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from rasengan_xl.evaluation.records import Outcome
from rasengan_xl.evaluation.resampling import DRAWS, picture_weights
from rasengan_xl.evaluation.samples import Sampled, sample_means
from rasengan_xl.evaluation.verdicts import judge_measure

DEALS = 1000


def read_losses(folder: Path, arm: str) -> np.ndarray:
    """Return the held-out loss of each run and picture, [run, picture]."""
    files = sorted((folder / "arms" / arm).glob("seed-*/held_out_table.json"))
    return np.array([np.mean(json.loads(file.read_text())["adapted"], axis=1) for file in files])


def judge(groups: dict[str, np.ndarray], weights: np.ndarray) -> list[Outcome]:
    """Judge arms whose runs are given, [run, picture]."""
    arms: dict[str, Sampled] = {
        name: sample_means(dict(enumerate(rows)), weights) for name, rows in groups.items()
    }
    return [verdict.outcome for verdict in judge_measure("loss", "lower", arms)]


def main() -> None:
    """Print the rates for every arm, and for the first two of them against each other."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3, help="runs dealt to each arm")
    parser.add_argument("--deals", type=int, default=DEALS)
    told = parser.parse_args()
    names = sorted(file.name for file in (told.folder / "arms").iterdir())
    losses = {name: read_losses(told.folder, name) for name in names}
    weights = picture_weights(next(iter(losses.values())).shape[1], DRAWS, "held out")
    random = np.random.default_rng(0)
    for name, rows in losses.items():
        copies = len(rows) // told.seeds
        false = 0
        for _ in range(told.deals):
            dealt = rows[random.permutation(len(rows))]
            groups = {
                f"copy {i}": dealt[i * told.seeds : (i + 1) * told.seeds] for i in range(copies)
            }
            false += any(o in ("better", "worse") for o in judge(groups, weights))
        spread = rows.mean(axis=1)
        print(
            f"{name}: {len(rows)} runs, loss {spread.mean():.5f}, standard deviation over seeds "
            f"{spread.std(ddof=1):.5f}; {copies} copies of {told.seeds} seeds, {told.deals} deals: "
            f"any false verdict in {false / told.deals:.3f}"
        )
    first, second = names[:2]
    found = 0
    for _ in range(told.deals):
        chosen = random.permutation(len(losses[first]))[: told.seeds]
        pair = {first: losses[first][chosen], second: losses[second][chosen]}
        found += judge(pair, weights) == ["better" if _is_lower(pair) else "worse"]
    print(f"{first} against {second}, {told.seeds} seeds: told apart in {found / told.deals:.3f}")


def _is_lower(pair: dict[str, np.ndarray]) -> bool:
    first, second = pair.values()
    return bool(first.mean() < second.mean())


if __name__ == "__main__":
    main()
