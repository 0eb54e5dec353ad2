"""Find what would stop any arm before the first begins, and what can be told of all beforehand."""

from collections.abc import Iterator

from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.adapters.inventory import count_all_parameters, count_parameters
from rasengan_xl.adapters.matching import refuse_unmatched
from rasengan_xl.adapters.start_file import describe_given, read_start
from rasengan_xl.comparison.facts import ArmFacts, PreparedFacts
from rasengan_xl.comparison.layout import ComparisonFolder
from rasengan_xl.comparison.orders import Prepare
from rasengan_xl.comparison.probe import recall_or_measure_peak
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.dataset.encoded import encode_dataset
from rasengan_xl.errors import AdapterError, DeviceError, RecipeError
from rasengan_xl.evaluation.held_out import build_table
from rasengan_xl.planning.engine_choice import settle_engine
from rasengan_xl.runs.cost import peak_memory, reset_peak_memory
from rasengan_xl.runs.folder import write_whole
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.sdxl.components import load_unet_shape
from rasengan_xl.sdxl.compute import choose_compute
from rasengan_xl.sdxl.model_folder import ModelFolder, find_model
from rasengan_xl.sdxl.noise_schedule import load_noise_schedule
from rasengan_xl.training.flops import count_step_flops
from rasengan_xl.training.optimizer import check_optimizer


def prepare_arms(order: Prepare) -> Iterator[StageProgress]:
    """Check every arm, encode the dataset that all share, and write down what was found.

    Raises:
        RasenganError: Something would stop an arm; nothing has been written then.
    """
    facts: dict[str, ArmFacts] = {}
    for done, (name, settings) in enumerate(order.arms.items(), start=1):
        try:
            facts[name] = _check(settings)
        except (AdapterError, DeviceError, RecipeError) as error:
            raise type(error)(f"arms.{name}: {error}") from error
        yield StageProgress(stage="check the arms", done=done, total=len(order.arms))
    first = next(iter(order.arms.values()))
    if order.matched:
        shape = load_unet_shape(find_model(first.base_model, first.base_revision))
        refuse_unmatched(shape, {name: arm.adapter for name, arm in order.arms.items()})
    compute = choose_compute(first.compute)
    reset_peak_memory(compute.device)
    # Base model and dataset are the same in all arms (config/comparison.py).
    model = find_model(first.base_model, first.base_revision)
    dataset = yield from encode_dataset(first, model, compute)
    encoded = dataset.captions_encoded.encoded + dataset.crops_encoded.encoded
    build_table(dataset.held_out, load_noise_schedule(model, zero_terminal_snr=None), first)
    memory = peak_memory("encode", compute.device) if encoded else None
    yield StageProgress(stage="measure the device", done=0, total=1)
    found = PreparedFacts(
        arms=facts,
        probe=recall_or_measure_peak(compute, order.known_probe),
        memory=memory,
        dataset_fingerprint=dataset.facts.fingerprint,
        model=model.facts(),
    )
    yield StageProgress(stage="measure the device", done=1, total=1)
    write_whole(ComparisonFolder(order.root).prepared_file, found.model_dump_json(indent=2))


def _check(settings: RunSettings) -> ArmFacts:
    compute = choose_compute(settings.compute)
    model = find_model(settings.base_model, settings.base_revision)
    load_noise_schedule(model, zero_terminal_snr=settings.objective.zero_terminal_snr)
    check_optimizer(settings.training, compute.device)
    if settings.is_given:
        return _describe_given(settings, model)
    settle_engine(settings, load_unet_shape(model), compute)
    return _count(settings, model)


def _describe_given(settings: RunSettings, model: ModelFolder) -> ArmFacts:
    contents, _ = read_start(settings, model)
    own = contents.parameter_count
    return ArmFacts(
        trainable_parameters=own,
        total_parameters=count_parameters(load_unet_shape(model)) + own,
        flops_per_step=None,
        given=describe_given(contents),
    )


def _count(settings: RunSettings, model: ModelFolder) -> ArmFacts:
    unet = load_unet_shape(model)
    if settings.adapter.start_from is not None:
        read_start(settings, model)
    adapter = attach_adapter(unet, settings.adapter, settings.seed)
    return ArmFacts(
        trainable_parameters=adapter.parameter_count,
        total_parameters=count_all_parameters(adapter),
        flops_per_step=count_step_flops(unet, model, settings),
    )
