"""One arm in a process of its own, so that none leaves memory or settings behind for the next.

A worker imports its libraries, then waits for a line that tells its job: while one measures, the
next can already be waiting, and no time of a rented GPU goes by importing.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.training_step.arms import Arm
from benchmarks.training_step.rows import Row

ROOT = Path(__file__).parents[2]
MARK = "row: "
"""Before the line that is the answer; libraries may say things, too."""
_MOST_TOLD = 3000
"""Characters of what a worker that failed has said; the row has its last line."""


def start_worker() -> subprocess.Popen[str]:
    """Start a process that waits for a job."""
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.training_step.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def give(worker: subprocess.Popen[str], job: dict[str, Any]) -> None:
    """Give a worker its job."""
    assert worker.stdin is not None
    worker.stdin.write(json.dumps(job) + "\n")
    worker.stdin.flush()


def receive(worker: subprocess.Popen[str], most_seconds: float) -> Any:
    """Wait for a worker's answer, and return it, or in a string why there is none."""
    try:
        said, errors = worker.communicate(timeout=most_seconds)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.communicate()
        return f"took longer than {most_seconds:.0f} s"
    answers = [line for line in said.splitlines() if line.startswith(MARK)]
    if worker.returncode or not answers:
        print(errors[-_MOST_TOLD:], file=sys.stderr, flush=True)
        return next(reversed(errors.strip().splitlines()), f"exit status {worker.returncode}")
    return json.loads(answers[-1].removeprefix(MARK))


def dismiss(worker: subprocess.Popen[str]) -> None:
    """End a worker that waits in vain."""
    worker.communicate("")


def main() -> None:
    """Wait for a job, do it, and write down the answer."""
    import torch  # noqa: PLC0415 - all of it while another worker measures

    from benchmarks.training_step import counting, measuring  # noqa: PLC0415
    from rasengan_xl.comparison.probe import measure_peak  # noqa: PLC0415
    from rasengan_xl.sdxl.compute import Compute  # noqa: PLC0415

    line = sys.stdin.readline()
    if not line:
        return
    job = json.loads(line)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    answer: Any
    if job["do"] == "probe":
        dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
        peaks = {p: measure_peak(Compute(device, dtypes[p])) for p in job["precisions"]}
        answer = {p: peak.teraflops_per_second for p, peak in peaks.items()}
    elif job["do"] == "flops":
        arm = Arm.model_validate(job["arm"])
        answer = counting.count_model_teraflop(arm, measuring.build)
    elif job["do"] == "count":
        arm = Arm.model_validate(job["arm"])
        counts = counting.count_step(arm, measuring.build)
        row = Row(arm=arm, basis="counted on meta tensors", device="meta", counts=counts)
        answer = row.model_dump(exclude_none=True)
    else:
        arm = Arm.model_validate(job["arm"])
        answer = measuring.measure(arm, device, job["steps"]).model_dump(exclude_none=True)
    print(MARK + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
