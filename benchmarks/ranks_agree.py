"""Whether N processes do what one does: the same steps on one process and under torchrun.

    python benchmarks/ranks_agree.py --processes 2

Trains mini SDXL twice, on one GPU (or CPU) and on N, with the same pictures per step, and compares
trace hash, losses and step time.  With GPUs each process takes one, and gradients travel by NCCL.
One JSON object goes to standard output; the exit status is 1 if the runs differ.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rasengan_xl.runs.folder import RunFolder, read_record
from rasengan_xl.runs.records import RunSummary

TOLERANCE = 1e-2
"""Of losses, relative: sums are made in another order, and 16-bit arithmetic is coarse."""


def train(out: Path, recipe: str, batch_size: int, processes: int, steps: int) -> RunFolder:
    """Train a recipe through the real command."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(launcher if processes > 1 else [])]
    command += ["-m", "rasengan_xl", "train", recipe, "--out", str(out)]
    for override in (f"batch_size={batch_size}", "accumulation=1", f"steps={steps}"):
        command += ["--set", f"training.{override}"]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return RunFolder(out)


def main() -> None:
    """Train on one process and on several, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=4, help="pictures per step")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--recipe", default="mini-lora")
    told = parser.parse_args()
    if told.batch_size % told.processes:
        parser.error("--batch-size must be a multiple of --processes")
    with TemporaryDirectory() as place:
        folders = [
            train(Path(place, str(n)), told.recipe, told.batch_size // n, n, told.steps)
            for n in (1, told.processes)
        ]
        losses = [[record.loss for record in folder.records()] for folder in folders]
        summaries = [read_record(RunSummary, folder.summary_file) for folder in folders]
    apart = max(abs(a - b) / a for a, b in zip(*losses, strict=True))
    same_trace = summaries[0].trace_hash == summaries[1].trace_hash
    seconds = [s.seconds_per_step.model_dump() if s.seconds_per_step else None for s in summaries]
    answer = {
        "processes": told.processes,
        "same_trace": same_trace,
        "largest_relative_difference_of_losses": apart,
        "seconds_per_step": {"one": seconds[0], "several": seconds[1]},
    }
    print(json.dumps(answer))
    sys.exit(not same_trace or apart > TOLERANCE)


if __name__ == "__main__":
    main()
