"""Put together what a run consists of: where it stands, what it learns, and from what."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from rasengan_xl.adapters.adapter import Adapter
from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.adapters.carrying import carry_over
from rasengan_xl.adapters.start_file import read_start
from rasengan_xl.adapters.starting import begin_from
from rasengan_xl.adapters.verification.attachment import Attachment, witness_attachment
from rasengan_xl.adapters.verification.fingerprint import BaseFingerprint, take_fingerprint
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.dataset.encoded import EncodedDataset
from rasengan_xl.dataset.stream import build_stream
from rasengan_xl.dataset.trace import TraceHash
from rasengan_xl.engine.caption_columns import caption_columns
from rasengan_xl.engine.kernels.availability import why_no_kernels
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.errors import RasenganError
from rasengan_xl.evaluation.held_out import HeldOutTable, build_table
from rasengan_xl.planning.engine_choice import settle_engine
from rasengan_xl.planning.memory_modes import choose_memory_mode, with_mode
from rasengan_xl.planning.model_shape import read_shape
from rasengan_xl.ranks import Ranks
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.resuming import global_batch
from rasengan_xl.sdxl.components import load_unet, load_unet_shape
from rasengan_xl.sdxl.compute import Compute, choose_compute
from rasengan_xl.sdxl.model_folder import ModelFolder, find_model
from rasengan_xl.sdxl.noise_schedule import NoiseSchedule, load_noise_schedule
from rasengan_xl.sdxl.objective import build_objective
from rasengan_xl.sdxl.stored_weights import StoredWeights
from rasengan_xl.tensor_file import digest_tensors
from rasengan_xl.training.given_weights import GivenWeights
from rasengan_xl.training.loop import Task
from rasengan_xl.training.optimizer import build_optimizer, check_optimizer
from rasengan_xl.training.state import TrainingState


@dataclass(frozen=True, slots=True, kw_only=True)
class Footing:
    """Where and with whom a run takes place, and what it starts from."""

    compute: Compute
    model: ModelFolder
    schedule: NoiseSchedule
    ranks: Ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run in progress: what was asked for, what is learnt, and where it is written down."""

    settings: RunSettings
    folder: RunFolder
    """Only the first process of a job looks into it."""
    base: BaseFingerprint
    """Of the base before the adapter was attached."""
    attached: Attachment
    """Of the base right after."""
    state: TrainingState
    task: Task
    dataset: EncodedDataset
    table: HeldOutTable
    notes: tuple[str, ...] = ()
    """What must be told of what it starts from, one line each."""

    @property
    def is_due(self) -> bool:
        """Whether the step that was just taken ends in a checkpoint that is measured."""
        step, training = self.state.steps_done, self.settings.training
        return step == training.steps or (step > 0 and step % training.save_every == 0)


def find_footing(settings: RunSettings, ranks: Ranks) -> Footing:
    """Find out where a run takes place and what it starts from.

    Raises:
        RasenganError: The device, the optimizer or the model cannot be had.
    """
    compute = choose_compute(settings.compute)
    check_optimizer(settings.training, compute.device)
    model = find_model(settings.base_model, settings.base_revision)
    schedule = load_noise_schedule(model, zero_terminal_snr=settings.objective.zero_terminal_snr)
    return Footing(compute=compute, model=model, schedule=schedule, ranks=ranks)


def assemble_run(
    settings: RunSettings, folder: RunFolder, footing: Footing, dataset: EncodedDataset
) -> Run:
    """Load the UNet, attach the adapter, and put everything together.

    Raises:
        RasenganError: The UNet cannot be loaded, or the processes of the job disagree.
    """
    compute, schedule, ranks = footing.compute, footing.schedule, footing.ranks
    with ranks.together():
        held_back = list_held_back(settings, footing.model)
        unet = load_unet(footing.model, compute, settings.adapter.base_precision, held_back)
        base = take_fingerprint(unet, compute)
        mode = choose_memory_mode(settings, compute, shape=read_shape(footing.model))
        options = settle_engine(with_mode(settings, mode), unet, compute)
        adapter = attach_adapter(unet, settings.adapter, settings.seed, options)
        attached = witness_attachment(adapter, base, compute)
        started = _start(adapter, settings, footing.model, compute.dtype)
        notes = (*tell_lacking(options, compute), *started)
    _refuse_disagreement(adapter, dataset, ranks)
    task = Task(
        stream=build_stream(dataset.train, settings, len(schedule.alpha_bars), ranks),
        objective=build_objective(schedule, settings.objective).to(compute.device),
        compute=compute,
        settings=settings.training,
        ranks=ranks,
    )
    return Run(
        settings=settings,
        folder=folder,
        base=base,
        attached=attached,
        state=_new_state(adapter, settings, compute, ranks),
        task=task,
        dataset=dataset,
        table=build_table(dataset.held_out, schedule, settings),
        notes=notes,
    )


def list_held_back(settings: RunSettings, model: ModelFolder) -> list[str]:
    """Name the layers whose weights stay in main memory, as what they make is kept on disk."""
    if not settings.engine.cache_text_kv:
        return []
    return list(caption_columns(load_unet_shape(model)))


def tell_lacking(options: EngineOptions, compute: Compute) -> Iterator[str]:
    """Say what makes the run slower than it could be."""
    if compute.device.type == "cuda" and options.implementation == "fused":
        reason = why_no_kernels(compute.device)
        if reason is not None:
            yield f"PyTorch's own kernels are used, which are slower: {reason}"


def _start(
    adapter: Adapter, settings: RunSettings, model: ModelFolder, dtype: torch.dtype
) -> tuple[str, ...]:
    """Give the adapter the weights that the run starts from, unless it starts anew."""
    if settings.adapter.start_from is None:
        return ()
    contents, _ = read_start(settings, model)
    stored = StoredWeights(model)
    precision = settings.adapter.base_precision
    contents = carry_over(contents, precision, dtype, lambda layer: stored.read(f"{layer}.weight"))
    return begin_from(adapter, contents, settings.adapter, settings.seed)


def _new_state(
    adapter: Adapter, settings: RunSettings, compute: Compute, ranks: Ranks
) -> TrainingState:
    optimizer = build_optimizer(adapter.trained, settings.training)
    return TrainingState(
        adapter=adapter,
        optimizer=optimizer,
        scaler=torch.amp.GradScaler(compute.device.type, enabled=compute.dtype is torch.float16),
        trace=TraceHash(),
        given=GivenWeights(adapter.trained, optimizer, settings.training.ema_decay, adapter.settle),
        global_batch=global_batch(settings, ranks.count),
        precision=str(compute.dtype).removeprefix("torch."),
        zero_terminal_snr=settings.objective.zero_terminal_snr is True,
    )


def _refuse_disagreement(adapter: Adapter, dataset: EncodedDataset, ranks: Ranks) -> None:
    """Refuse a job whose processes would not do the same."""
    weights = digest_tensors({name: p.detach() for name, p in adapter.parameters.items()})
    for what, value in (("pictures", dataset.facts.fingerprint), ("first weights", weights)):
        with ranks.together():
            if len(set(ranks.gather(value))) > 1:
                raise RasenganError(
                    f"the processes of this job have different {what}: give them all the same "
                    "files and the same versions of every package"
                )
