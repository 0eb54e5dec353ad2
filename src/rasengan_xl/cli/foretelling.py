"""What `rasengan plan` shows: whether each arm fits, what fills the memory, how long it takes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from rasengan_xl.cli.console import console, say
from rasengan_xl.config.comparison import load_comparison
from rasengan_xl.config.recipe import read_toml
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.config.shipped import comparison_names
from rasengan_xl.errors import RecipeError
from rasengan_xl.planning.changes import TRAIN
from rasengan_xl.planning.gpus import GPU, GPUS, find_gpu, gpu_here, gpu_of_memory
from rasengan_xl.planning.memory_modes import planned_dtype, room_gib, taken_gib
from rasengan_xl.planning.model_shape import CUDA, ModelShape, find_shape
from rasengan_xl.planning.records import describe_plan
from rasengan_xl.planning.run_plan import PhasePlan, Planner, RunPlan
from rasengan_xl.planning.savings import Saving, savings
from rasengan_xl.sdxl.compute import Compute

_KEEPS = {
    "keep-all": "everything kept for the backward pass",
    "recompute-feed-forward": "feed-forward layers computed again in the backward pass",
    "recompute-all": "every block computed again in the backward pass",
}
"""What a memory mode means."""
_LARGEST = 3
"""Parts of the memory that are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be foretold."""

    arms: Mapping[str, RunSettings]
    seeds: int
    gpus: Sequence[GPU]
    price_per_hour: float | None = None
    probe: bool = False
    """Whether to take a few real steps, too."""


def read_arms(name: str, overrides: Sequence[str]) -> tuple[dict[str, RunSettings], int]:
    """Read a recipe as its one arm, or a comparison as its arms; and how often each is trained.

    Raises:
        RecipeError: There is neither, or nothing in it is trained.
    """
    if _is_comparison(name):
        from rasengan_xl.comparison.start_arms import settle_arms

        settings = settle_arms(load_comparison(name, overrides), overrides)
        arms, seeds = settings.arms, len(settings.seeds)
    else:
        from rasengan_xl.cli.verbs import settle_recipe

        arms, seeds = {Path(name).stem: settle_recipe(name, overrides, None)}, 1
    trained = {arm: run for arm, run in arms.items() if not run.is_given}
    if not trained:
        raise RecipeError(f"{name}: nothing in it is trained (training.steps = 0)")
    return trained, seeds


def choose_gpus(gpu: str | None, memory_gib: float | None) -> list[GPU]:
    """Return the GPU that is asked for, else this machine's, else all that are known.

    Raises:
        RecipeError: Both a name and a size are given.
        DeviceError: The name is not known.
    """
    if gpu is not None and memory_gib is not None:
        raise RecipeError(
            "--gpu and --memory-gib both say what it is to fit into: give one of them"
        )
    if gpu is not None:
        return [find_gpu(gpu)]
    if memory_gib is not None:
        return [gpu_of_memory(memory_gib)]
    here = gpu_here()
    return [here] if here is not None else list(GPUS.values())


def show_plans(question: Question, *, as_json: bool) -> None:
    """Plan every arm on every GPU, and show what comes out."""
    first = next(iter(question.arms.values()))
    shape = find_shape(first)
    planner = Planner(shape=shape)
    plans = [
        [planner.plan(arm, settings, gpu) for arm, settings in question.arms.items()]
        for gpu in question.gpus
    ]
    if as_json:
        told = [[describe_plan(plan).model_dump() for plan in row] for row in plans]
        print_json([plan for row in told for plan in row])
        return
    if not shape.is_known:
        say(f"{shape.name} is not here: planned with the shape of SDXL base 1.0")
    if len(plans) == 1:
        show_one_gpu(plans[0], question, shape)
    else:
        console.print(tabulate_gpus(plans))
    if plans[0][0].seconds_per_step is not None:
        say(f"Seconds are {plans[0][0].basis}.")
    if question.probe:
        show_probe(question, plans[0])


def show_probe(question: Question, plans: Sequence[RunPlan]) -> None:
    """Take a few real steps of each arm, and say how far the plan was off."""
    from rasengan_xl.training.probing import probe_steps

    for plan in plans:
        probed = probe_steps(question.arms[plan.name])
        told = f"{plan.name}, probed on {probed.device_name}: {probed.seconds_per_step:.3f} s/step"
        if probed.allocated_gib is None or plan.seconds_per_step is None:
            say(f"{told} (predictions are of GPUs)")
            continue
        time_error = plan.seconds_per_step / probed.seconds_per_step - 1
        memory_error = plan.train.allocated_gib / probed.allocated_gib - 1
        say(
            f"{told}, {plan.seconds_per_step:.3f} planned ({time_error:+.0%}); "
            f"{probed.allocated_gib:.2f} GiB allocated, {plan.train.allocated_gib:.2f} planned "
            f"({memory_error:+.1%})"
        )


def show_one_gpu(plans: Sequence[RunPlan], question: Question, shape: ModelShape) -> None:
    """Show the plans of all arms on one GPU."""
    console.print(tabulate_arms(plans))
    for plan in plans:
        say(f"{plan.name}, training, {_KEEPS[plan.options.memory]}: {describe_parts(plan.train)}")
    for line in advise(plans, shape):
        say(line)
    if plans[0].total_seconds is not None:
        say(describe_total(plans, question))
    else:
        say("How long it takes is not known of this GPU: see --gpu, or --probe on it.")


def advise(plans: Sequence[RunPlan], shape: ModelShape) -> Iterator[str]:
    """Say what to change if something does not fit: for the arm that needs most of all."""
    room = room_gib(plans[0].gpu)
    too_large = [plan for plan in plans if plan.train.card_gib > room]
    if not too_large:
        for plan in plans:
            if not plan.fits:
                yield f"{plan.name} can be trained, but not encoded for or drawn with, on this GPU."
        return
    worst = max(too_large, key=lambda plan: plan.train.card_gib)
    yield (
        f"{worst.name} needs {worst.train.card_gib:.1f} GiB to train; {room:.1f} can be counted "
        "on. What would help, the cheapest in time and quality first:"
    )
    for saving in helpful(worst, shape):
        left = taken_gib(saving.reserved, worst.gpu)
        verdict = "then it fits" if left <= room else f"{left:.1f} GiB are left"
        yield (
            f"  {saving.change.action}  saves {worst.train.card_gib - left:.1f} GiB, {verdict} "
            f"({saving.change.price})"
        )


def helpful(plan: RunPlan, shape: ModelShape) -> Iterator[Saving]:
    """Yield what saves memory, up to the first change that is enough by itself."""
    compute = Compute(CUDA, planned_dtype(plan.settings, plan.gpu))
    for saving in savings(plan.settings, shape, compute, TRAIN, plan.options.memory):
        yield saving
        if taken_gib(saving.reserved, plan.gpu) <= room_gib(plan.gpu):
            return


def tabulate_arms(plans: Sequence[RunPlan]) -> Table:
    """Put the arms of one GPU side by side."""
    gpu = plans[0].gpu
    table = _new_table(
        f"On one {gpu.name} ({gpu.memory_gib:.1f} GiB, {plans[0].precision}), memory in GiB"
    )
    table.add_column("arm", overflow="fold")
    table.add_column("fits", no_wrap=True)
    for heading in ("encode", "train", "draw", "a step", "in all"):
        table.add_column(heading, justify="right", no_wrap=True)
    for plan in plans:
        table.add_row(
            plan.name,
            "yes" if plan.fits else "NO",
            *(f"{phase.card_gib:.1f}" for phase in (plan.encode, plan.train, plan.draw)),
            write_lap(plan.seconds_per_step),
            "-" if plan.total_seconds is None else describe_time(plan.total_seconds),
        )
    return table


def tabulate_gpus(plans: Sequence[Sequence[RunPlan]]) -> Table:
    """Put GPUs below one another, and the arms side by side."""
    table = _new_table("GiB taken and time per step, training on one GPU")
    table.add_column("GPU", no_wrap=True)
    for plan in plans[0]:
        table.add_column(plan.name, overflow="fold")
    for row in plans:
        gpu = row[0].gpu
        cells = [
            f"{plan.train.card_gib:.1f}, {write_lap(plan.seconds_per_step)}"
            if plan.fits
            else f"NO: {_largest_gib(plan):.1f}"
            for plan in row
        ]
        table.add_row(f"{gpu.name} ({gpu.memory_gib:.0f} GiB)", *cells)
    return table


def _new_table(title: str) -> Table:
    """Return an empty table that leaves 80 columns to what stands in it."""
    return Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False)


def _largest_gib(plan: RunPlan) -> float:
    """Return what the phase takes that needs most."""
    return max(phase.card_gib for phase in (plan.encode, plan.train, plan.draw))


def describe_parts(phase: PhasePlan) -> str:
    """Say how much PyTorch allocates, and what the largest parts of it are for."""
    largest = list(phase.parts_gib.items())[:_LARGEST]
    named = ", ".join(f"{kind} {gib:.2f}" for kind, gib in largest)
    return (
        f"{phase.allocated_gib:.2f} GiB allocated by PyTorch ({named}), "
        f"{phase.card_gib:.2f} taken from the card"
    )


def describe_total(plans: Sequence[RunPlan], question: Question) -> str:
    """Add up what all arms and seeds take."""
    seconds = sum(plan.total_seconds or 0.0 for plan in plans) * question.seeds
    hours = seconds / 3600
    price = question.price_per_hour
    cost = "" if price is None else f", {hours * price:.2f} at {price:g} an hour"
    runs = len(plans) * question.seeds
    counted = f"{runs} runs" if runs > 1 else "the run"
    return f"GPU hours for {counted}: {hours:.2f}{cost} (encoding and drawing come on top)"


def write_lap(seconds: float | None) -> str:
    """Write how long a step takes."""
    if seconds is None:
        return "-"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def describe_time(seconds: float) -> str:
    """Write a length of time as people do."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def print_json(document: Any) -> None:
    """Print a document, and nothing else."""
    console.print_json(json.dumps(document))


def _is_comparison(name: str) -> bool:
    if name.endswith(".toml") and Path(name).is_file():
        return not {"arms", "varies"}.isdisjoint(read_toml(Path(name)))
    return name in comparison_names()
