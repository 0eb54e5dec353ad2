"""A run that trains nothing: an adapter that is given, measured as it is."""

from collections.abc import Generator, Iterator
from dataclasses import replace
from functools import partial

from rasengan_xl.adapters.applying import applied
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.inventory import count_parameters
from rasengan_xl.adapters.start_file import copy_start, read_start
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.dataset.encoded import EncodedDataset
from rasengan_xl.evaluation.base_losses import name_base_losses, recall_or_measure
from rasengan_xl.evaluation.held_out import (
    build_table,
    measure_losses,
    summarise_losses,
    tabulate_losses,
)
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.provenance import describe_machine
from rasengan_xl.runs.records import RunSummary, StageProgress, TableLosses
from rasengan_xl.sdxl.components import load_unet
from rasengan_xl.training.assembly import Footing
from rasengan_xl.training.changed_text import with_changed_text

MEASURE = "measure a given adapter"


def measure_given(
    settings: RunSettings, folder: RunFolder, footing: Footing, dataset: EncodedDataset
) -> Iterator[StageProgress]:
    """Measure an adapter as it is given, whatever its kind, and leave it all in the folder.

    Args:
        settings: With the adapter to start from, and no step to train.
        folder: What an earlier attempt has left there is written anew.
        footing: Where and on what.
        dataset: Whose held-out pictures it is measured on.

    Raises:
        RasenganError: The adapter does not fit the base model, or a loss is not finite.
    """
    ranks, model = footing.ranks, footing.model
    with ranks.together():
        contents, _ = read_start(settings, model)
        if ranks.is_first:
            folder.keep_settings(settings)
            machine = describe_machine(footing.compute.device, ranks.count)
            folder.write_origin(machine, dataset.facts, model.facts())
            copy_start(settings, folder.adapter_file)
    for note in contents.notes:
        yield StageProgress(stage=MEASURE, done=0, total=1, note=note)
    losses, parameters = yield from _measure(settings, contents, footing, dataset)
    if ranks.is_first:
        folder.write_table_losses(losses)
        folder.write_summary(_summarise(folder, contents, parameters, losses))


def _measure(
    settings: RunSettings, contents: AdapterContents, footing: Footing, dataset: EncodedDataset
) -> Generator[StageProgress, None, tuple[TableLosses, int]]:
    """Measure base and adapter on the held-out table; also count the base's parameters."""
    compute, ranks, model = footing.compute, footing.ranks, footing.model
    table = build_table(dataset.held_out, footing.schedule, settings)
    with ranks.together():
        own = with_changed_text(table, contents, footing, dataset)
        unet = load_unet(model, compute, settings.adapter.base_precision)
    most = settings.evaluation.pictures
    measure = partial(measure_losses, unet, most_pictures=most, compute=compute, ranks=ranks)
    key = name_base_losses(model, settings.adapter.base_precision, table, most, compute)
    with ranks.together():
        base = yield from recall_or_measure(key, partial(measure, table=table), ranks)
        # Beside the weights, as while training: merged into 16 bits, small changes round away.
        with applied({"unet": unet}, [_of_unet(contents)], [1.0], fuse=False):
            adapted = yield from measure(table=own)
    return tabulate_losses(table, base, adapted), count_parameters(unet)


def _of_unet(contents: AdapterContents) -> AdapterContents:
    changes = contents.changes.items()
    return replace(contents, changes={n: c for n, c in changes if n.startswith("unet.")})


def _summarise(
    folder: RunFolder, contents: AdapterContents, base_parameters: int, losses: TableLosses
) -> RunSummary:
    return RunSummary(
        status="finished",
        steps=0,
        trainable_parameters=contents.parameter_count,
        total_parameters=base_parameters + contents.parameter_count,
        adapter_file=folder.adapter_file.name,
        adapter_bytes=folder.adapter_file.stat().st_size,
        peak_memory_gib=None,
        peak_memory_reserved_gib=None,
        memory_kind=None,
        seconds_per_step=None,
        loader_idle_share=None,
        training_loss=None,
        training_loss_steps=0,
        skipped_steps=0,
        held_out_loss=summarise_losses(losses),
        seconds=None,
        joules_per_step=None,
        trace_hash=None,
    )
