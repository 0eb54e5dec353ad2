"""The tables of a card: how a run was trained, and what was measured of it."""

from collections.abc import Iterator
from pathlib import Path

from rasengan_xl.config.base_precisions import STORAGES
from rasengan_xl.config.settings import AdapterSettings, RunSettings
from rasengan_xl.runs.engine_words import tell_engine
from rasengan_xl.runs.folder import RunFolder, read_if_sound, read_record
from rasengan_xl.runs.records import (
    DatasetFacts,
    HeldOutLoss,
    Machine,
    ModelFacts,
    RunSummary,
    TableLosses,
)
from rasengan_xl.sharing.places import Origins

Row = tuple[str, str]
"""What it is, and its value with unit, n and spread."""


def method_name(settings: AdapterSettings) -> str:
    """Name the method as the literature does."""
    method = "DoRA" if settings.decompose else "LoRA"
    return f"Q{method}" if STORAGES[settings.base_precision].is_qlora else method


def scale_in_words(settings: AdapterSettings) -> str:
    """Say by what the update BA is multiplied."""
    rank, alpha = settings.rank, f"{settings.alpha:g}"
    others = tell_exceptions(settings)
    if settings.rank_stabilized:
        scale = settings.alpha / rank**0.5
        return f"alpha / sqrt(rank) = {alpha} / sqrt({rank}) = {scale:.4g}{others}"
    return f"alpha / rank = {alpha} / {rank} = {settings.alpha / rank:.4g}{others}"


def tell_exceptions(settings: AdapterSettings) -> str:
    """Say how many layers have another rank or alpha; nothing if none has."""
    count = len(settings.layer_shapes)
    return f"; {count:,} layer{' has its' if count == 1 else 's have their'} own" if count else ""


def list_settings(settings: RunSettings, origins: Origins, machine: Machine) -> Iterator[Row]:
    """List the settings that people look for first."""
    adapter, dataset, training = settings.adapter, settings.dataset, settings.training
    yield "base model", origins.base_model
    yield "dataset", origins.dataset
    yield "method", method_name(adapter)
    yield "frozen base", STORAGES[adapter.base_precision].title
    yield "resolution", f"{dataset.resolution} px ({dataset.shapes}, crop: {dataset.crop})"
    yield "batch", _batch(settings, machine.processes)
    yield "steps", f"{training.steps:,} ({training.warmup_steps} of them warm-up)"
    yield "learning rate", f"{training.learning_rate:g}, {training.schedule}"
    yield "optimizer", f"{training.optimizer}, weight decay {training.weight_decay:g}"
    yield "loss", _objective(settings)
    yield "caption dropout", f"{settings.caption.dropout:.0%}"
    yield "precision", f"{settings.compute.precision}; the adapter fp32"
    yield "seed", f"{settings.seed}"


def _batch(settings: RunSettings, processes: int) -> str:
    size, accumulation = settings.training.batch_size, settings.training.accumulation
    factors = [f"{size} at once"]
    factors += [f"{accumulation} accumulated"] if accumulation > 1 else []
    factors += [f"{processes} processes"] if processes > 1 else []
    return f"{size * accumulation * processes} pictures a step ({' x '.join(factors)})"


def _objective(settings: RunSettings) -> str:
    objective = settings.objective
    weighting = "" if objective.min_snr_gamma is None else f", min-SNR {objective.min_snr_gamma:g}"
    return f"{objective.loss}{weighting}, timesteps {objective.timestep_sampling}"


def list_measures(folder: RunFolder) -> Iterator[Row]:
    """List what the run's records hold, each figure with its n and spread."""
    summary = read_record(RunSummary, folder.summary_file)
    storage = STORAGES[folder.read_settings().adapter.base_precision]
    yield "steps", _steps(summary)
    yield from _pictures(read_record(DatasetFacts, folder.dataset_file))
    if loss := summary.held_out_loss:
        base = f"base in {storage.title}" if storage.is_quantized else "base"
        yield from _held_out(loss, base, read_if_sound(TableLosses, folder.table_losses_file))
    if best := folder.best():
        found = f"step {best.step}: {best.loss:.4f} (n = {best.n})"
        yield "lowest loss of the checkpoints", found
    last = f"mean of the last {summary.training_loss_steps} steps"
    yield "training loss", f"{summary.training_loss:.4f} ({last})"
    yield from _costs(summary)
    if summary.engine:
        yield "computed by", tell_engine(summary.engine)
    yield from _device(read_record(Machine, folder.machine_file))


def _steps(summary: RunSummary) -> str:
    void = f", {summary.skipped_steps} of them void by fp16 overflow"
    return f"{summary.steps:,}{void if summary.skipped_steps else ''}"


def _pictures(dataset: DatasetFacts) -> Iterator[Row]:
    yield "pictures", f"{dataset.train:,} trained on, {dataset.held_out:,} held out"
    if dataset.skipped:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in dataset.skipped.items())
        yield (
            "pictures skipped",
            f"{sum(dataset.skipped.values()):,} of {dataset.found:,} ({reasons})",
        )


def _held_out(loss: HeldOutLoss, base: str, table: TableLosses | None) -> Iterator[Row]:
    counted = f"n = {loss.n}"
    if table:
        counted += f": {len(table.pictures)} pictures x {len(table.timesteps)} timesteps"
    for name, value, error in (
        (base, loss.base, loss.base_standard_error),
        ("with the adapter", loss.adapted, loss.adapted_standard_error),
        ("paired difference", loss.difference, loss.difference_standard_error),
    ):
        yield f"held-out loss, {name}", f"{value:.4f} ± {error:.4f} ({counted})"


def _costs(summary: RunSummary) -> Iterator[Row]:
    if seconds := summary.seconds_per_step:
        quartiles = f"quartiles {seconds.p25:.3g} to {seconds.p75:.3g}"
        yield "seconds per step", f"median {seconds.median:.3g} ({quartiles}; n = {seconds.n})"
    yield "all steps together", f"{summary.seconds:,.0f} s"
    reserved = summary.peak_memory_reserved_gib
    held = f"; {reserved:.2f} GiB reserved" if reserved else ""
    yield "peak memory", f"{summary.peak_memory_gib:.2f} GiB ({summary.memory_kind}{held})"
    if (joules := summary.joules_per_step) is not None:
        yield "energy per step", f"mean {joules:,.1f} J (of the GPU, by NVML)"


def _device(machine: Machine) -> Iterator[Row]:
    memory = machine.device_memory_gib
    size = f", {memory:g} GiB" if memory else f", {machine.cores} cores"
    many = f"{machine.processes} x " if machine.processes > 1 else ""
    yield "device", f"{many}{machine.device_name}{size}"


def list_provenance(folder: RunFolder, adapter_digest: str) -> Iterator[Row]:
    """List what tells this run from any other."""
    machine = read_record(Machine, folder.machine_file)
    model = read_record(ModelFacts, folder.model_file)
    dataset = read_record(DatasetFacts, folder.dataset_file)
    yield "adapter (SHA-256)", adapter_digest
    start = folder.read_settings().adapter
    if start.start_from is not None:
        yield "started from (SHA-256)", f"{Path(start.start_from).name} ({start.start_digest})"
    yield "seed", f"{folder.read_settings().seed}"
    if trace := read_record(RunSummary, folder.summary_file).trace_hash:
        yield "trace hash", trace
    yield "dataset fingerprint", dataset.fingerprint
    if dataset.revision:
        yield "dataset commit", dataset.revision
    if model.revision:
        yield "base model's commit", model.revision
    yield "base model's UNet (SHA-256)", model.parts.get("unet", "not recorded")
    if machine.commit:
        yield "commit of Rasengan-XL", machine.commit
    yield "versions", ", ".join(f"{name} {found}" for name, found in machine.packages.items())
    yield "Python", machine.python
