"""What a run cost and gave, put together from its log."""

from collections.abc import Collection

import torch

from rasengan_xl.adapters.inventory import count_all_parameters
from rasengan_xl.engine.kernels.availability import why_no_kernels
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.runs.cost import (
    mean_joules,
    memory_kind,
    summarise_idleness,
    summarise_seconds,
)
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.records import RunSummary
from rasengan_xl.training.state import TrainingState


def summarise_run(state: TrainingState, folder: RunFolder, device: torch.device) -> RunSummary:
    """Say what the steps so far cost; `interrupted` until the held-out loss is known."""
    records = folder.records()
    reserved = [r.peak_memory_reserved_gib for r in records if r.peak_memory_reserved_gib]
    last = records[-max(1, len(records) // 10) :]
    return RunSummary(
        status="interrupted",
        steps=len(records),
        trainable_parameters=state.adapter.parameter_count,
        total_parameters=count_all_parameters(state.adapter),
        adapter_file=folder.adapter_file.name,
        adapter_bytes=folder.adapter_file.stat().st_size,
        peak_memory_gib=max(record.peak_memory_gib for record in records),
        peak_memory_reserved_gib=max(reserved) if reserved else None,
        memory_kind=memory_kind(device),
        seconds_per_step=summarise_seconds(records),
        loader_idle_share=summarise_idleness(records),
        training_loss=sum(record.loss for record in last) / len(last),
        training_loss_steps=len(last),
        skipped_steps=sum(record.skipped for record in records),
        held_out_loss=None,
        best=folder.best(),
        seconds=sum(record.seconds for record in records),
        joules_per_step=mean_joules(records),
        trace_hash=state.trace.state,
        engine=tell_facts(state.adapter.options, state.given_up, device),
    )


def tell_facts(
    options: EngineOptions, given_up: Collection[str], device: torch.device
) -> dict[str, str | bool]:
    """Say what of the engine was in use, as far as it could be had."""
    facts = options.facts() | dict.fromkeys(given_up, False)
    if device.type == "cuda" and options.implementation == "fused":
        facts["triton"] = why_no_kernels(device) is None
    return facts
