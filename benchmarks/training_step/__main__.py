"""Speed and memory of a training step: ours beside other trainers', on SDXL's full-size UNet.

    python -m benchmarks.training_step --goals            # what the goals need, on a GPU
    python -m benchmarks.training_step --arms switches    # each optimisation off alone
    python -m benchmarks.training_step --table rows.jsonl # the tables once more

Run it from the repository.  Weights and inputs are random, which changes neither time nor memory;
nothing is downloaded.  Each arm has a process of its own; a row is written to the file of rows as
soon as it is known, and an arm that fails is a row, too.  Times are medians of steps after a
warm-up, by CUDA events.  Without a GPU, operations, kept bytes and arithmetic are counted on
tensors without values, and the table says so.
"""

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.training_step.arms import SETS, Arm
from benchmarks.training_step.goals import render_goals
from benchmarks.training_step.rows import Row, append_row, read_rows
from benchmarks.training_step.table import render
from benchmarks.training_step.worker import dismiss, give, receive, start_worker

LARGEST_TRIED = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """How arms are measured."""

    rows: Path
    steps: int
    most_seconds: float
    count: bool
    """Count on tensors without values rather than measure."""
    is_ahead: bool
    """Have the next worker import while the present one measures."""


def main() -> None:
    """Measure what the command line asks for, then show it."""
    asked = read_arguments()
    if asked.table:
        show(read_rows(asked.table))
        return
    arms = choose_arms(asked)
    if asked.list:
        print("\n".join(arm.name for arm in arms))
        return
    has_gpu = torch.cuda.is_available()
    session = Session(
        rows=asked.out,
        steps=asked.steps,
        most_seconds=asked.most_seconds,
        count=asked.count or (not has_gpu and asked.arms != "mini"),
        is_ahead=has_gpu,
    )
    if session.count:
        print("counted on tensors without values: nothing is timed\n", flush=True)
    deadline = time.monotonic() + asked.budget if asked.budget else float("inf")
    for row in run(arms, session, deadline):
        append_row(session.rows, row)
        print(brief(row), flush=True)
        if asked.largest and row.basis == "measured":
            find_largest(row.arm, session, deadline)
    print()
    show(read_rows(session.rows))


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training_step",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--arms", choices=sorted(SETS), default="goals", help="which set of arms")
    parser.add_argument("--goals", dest="arms", action="store_const", const="goals")
    parser.add_argument("--only", nargs="+", default=[], metavar="REGEX", help="names that match")
    parser.add_argument("--list", action="store_true", help="name the arms, and do nothing")
    parser.add_argument("--out", type=Path, default=Path("training-step.jsonl"), metavar="FILE")
    parser.add_argument("--table", type=Path, metavar="FILE", help="show rows that are there")
    parser.add_argument("--count", action="store_true", help="count on tensors without values")
    parser.add_argument("--steps", type=int, default=20, help="timed ones, after the warm-up")
    parser.add_argument("--largest", action="store_true", help="double batches until one fails")
    parser.add_argument("--most-seconds", type=float, default=180, help="an arm may take")
    parser.add_argument("--budget", type=float, help="seconds after which no arm is begun")
    return parser.parse_args()


def choose_arms(asked: argparse.Namespace) -> list[Arm]:
    """Return the arms that were asked for."""
    arms = list(SETS[asked.arms]())
    chosen = [
        arm for arm in arms if not asked.only or any(re.search(p, arm.name) for p in asked.only)
    ]
    if not chosen:
        sys.exit(f"error: --only {' '.join(asked.only)}: no arm of {asked.arms!r} has such a name")
    return chosen


def run(arms: Sequence[Arm], session: Session, deadline: float) -> Iterator[Row]:
    """Measure or count arms, one after the other."""
    workers = Workers(session)
    works = {} if session.count else begin_counting_arithmetic(arms)
    counts = [] if session.count else begin_counting(arms)
    peaks = {} if session.count else probe(workers, arms)
    for arm in arms:
        if time.monotonic() > deadline:
            yield Row(arm=arm, basis="failed", failure="not begun: the time was up")
            continue
        do = "count" if session.count else "measure"
        answer = workers.do({"do": do, "arm": arm.model_dump(), "steps": session.steps})
        if isinstance(answer, str):
            yield Row(arm=arm, basis="failed", failure=answer)
            continue
        row = Row.model_validate(answer)
        if not session.count:
            each = works[arm.resolution].answer(session.most_seconds)
            rates = {"matmul_teraflops_per_second": peaks.get(arm.precision)}
            rates["model_teraflop"] = None if isinstance(each, str) else each * arm.batch_size
            row = row.model_copy(update=rates)
        yield row
    for count in counts:
        answer = count.answer(session.most_seconds)
        if isinstance(answer, str):
            print(f"{count.arm.name}: not counted: {answer}", file=sys.stderr, flush=True)
        else:
            yield Row.model_validate(answer)
    workers.end()


def probe(workers: "Workers", arms: Sequence[Arm]) -> dict[str, float]:
    """Measure what the device reaches on square matrices, in each precision."""
    precisions = sorted({arm.precision for arm in arms})
    found = workers.do({"do": "probe", "precisions": precisions})
    if isinstance(found, str):
        print(f"matrix products were not measured: {found}", file=sys.stderr, flush=True)
        return {}
    return found


class Beside:
    """A count on tensors without values, made beside the first arms."""

    def __init__(self, do: str, arm: Arm) -> None:
        self.arm = arm
        self._worker = start_worker()
        self._found: Any = None
        give(self._worker, {"do": do, "arm": arm.model_dump()})

    def answer(self, most_seconds: float) -> Any:
        """Wait for it; in a string, why there is none."""
        if self._found is None:
            self._found = receive(self._worker, most_seconds)
        return self._found


def begin_counting_arithmetic(arms: Sequence[Arm]) -> dict[int, Beside]:
    """Begin to count the model's arithmetic for one picture of each size."""
    ones = {arm.resolution: arm.model_copy(update={"batch_size": 1}) for arm in arms}
    return {resolution: Beside("flops", arm) for resolution, arm in ones.items()}


def begin_counting(arms: Sequence[Arm]) -> list[Beside]:
    """Begin to count the operations of the arms of which it is wanted."""
    return [Beside("count", arm) for arm in arms if arm.count]


class Workers:
    """Processes for one job each; on a GPU's machine, one always waits with all imported."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: list[subprocess.Popen[str]] = []

    def do(self, job: dict[str, Any]) -> Any:
        """Have a job done by a fresh process."""
        worker = self._waiting.pop() if self._waiting else start_worker()
        if self._session.is_ahead:
            self._waiting.append(start_worker())
        give(worker, job)
        return receive(worker, self._session.most_seconds)

    def end(self) -> None:
        """Let none wait any longer."""
        for worker in self._waiting:
            dismiss(worker)


def find_largest(arm: Arm, session: Session, deadline: float) -> None:
    """Double the batch until it does not fit, or the time is up; each is a row."""
    size = 2 * arm.batch_size
    plain = re.sub(r" b\d+", "", arm.name)
    while size <= LARGEST_TRIED:
        name = f"{plain} largest b{size}"  # never that of an arm: its row would be lost
        changes = {"name": name, "batch_size": size, "check": False, "count": False}
        (row,) = run([arm.model_copy(update=changes)], session, deadline)
        append_row(session.rows, row)
        print(brief(row), flush=True)
        if row.basis == "failed":
            return
        size *= 2


def brief(row: Row) -> str:
    """Say in a line what was found."""
    if row.failure:
        return f"{row.arm.name}: failed: {row.failure}"
    if row.counts:
        told = f"{row.counts.operations:,} operations, {row.counts.saved_gib:.2f} GiB kept"
        return f"{row.arm.name}: {told}"
    assert row.milliseconds is not None
    told = f"{row.milliseconds.median:.1f} ms, {row.images_per_second:.2f}/s"
    peak = f", {row.peak_allocated_gib:.2f} GiB" if row.peak_allocated_gib else ""
    return f"{row.arm.name}: {told}{peak}"


def show(rows: Sequence[Row]) -> None:
    """Print all tables."""
    print(render(rows))
    print(render_goals(rows))


if __name__ == "__main__":
    main()
