"""Draw with a run's base model and with its adapter, side by side."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rasengan_xl.adapters.files import begins_from_pure_noise, find_adapter
from rasengan_xl.config.comparison_settings import PictureSettings
from rasengan_xl.config.settings import ComputeSettings
from rasengan_xl.errors import AdapterError
from rasengan_xl.generation.drawing import describe_drawing, draw_pictures, list_requests
from rasengan_xl.generation.pipeline import MemorySavings, adapted, load_pipeline
from rasengan_xl.generation.png import save_picture, side_by_side
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.sdxl.compute import choose_compute
from rasengan_xl.sdxl.model_folder import find_model


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnPair:
    """One request, drawn twice from the same noise."""

    prompt: str
    seed: int
    base: Path
    adapted: Path
    pair: Path
    """Both beside each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What an adapter is drawn on."""

    base_model: str
    base_revision: str | None
    compute: ComputeSettings
    resolution: int | None
    """Side of the pictures the adapter was trained on, in pixels, if that is known."""
    zero_terminal_snr: bool = False
    """Whether the adapter was trained to begin from pure noise, though its base was not."""


def find_ground(adapter: Path, base_model: str | None) -> Ground:
    """Return what an adapter was trained on, and is therefore drawn on.

    Args:
        adapter: A run's folder or an adapter's file.
        base_model: What to draw on instead; needed for a file that lies in no run's folder.

    Raises:
        AdapterError: Neither is known.
    """
    folder = _find_run(adapter)
    known = folder.read_settings() if folder.is_begun else None
    if known is None and base_model is None:
        raise AdapterError(
            f"{adapter}: no {folder.settings_file.name} beside it tells the base model; "
            "name it with --base"
        )
    if known:
        from_pure_noise = known.objective.zero_terminal_snr is True
    else:
        from_pure_noise = begins_from_pure_noise(find_adapter(adapter))
    return Ground(
        base_model=base_model or (known.base_model if known else ""),
        base_revision=known.base_revision if known and base_model is None else None,
        compute=known.compute if known else ComputeSettings(),
        resolution=known.dataset.resolution if known else None,
        zero_terminal_snr=from_pure_noise,
    )


def _find_run(adapter: Path) -> RunFolder:
    """Find the folder of the run that an adapter is the last or the best of."""
    place = (adapter if adapter.is_dir() else adapter.parent).resolve()
    around = RunFolder(place.parent)
    return around if place == around.best_adapter_file.parent else RunFolder(place)


def draw_pairs(
    adapter: Path,
    ground: Ground,
    pictures: PictureSettings,
    out: Path,
    savings: MemorySavings,
) -> Iterator[DrawnPair]:
    """Draw every request with the base and with the adapter, and save both and the pair.

    The base is drawn with no adapter on the model, not with one of strength zero, which for
    DoRA would be something else.
    """
    file = find_adapter(adapter)
    pipeline = load_pipeline(
        find_model(ground.base_model, ground.base_revision),
        choose_compute(ground.compute),
        savings,
    )
    native = pipeline.default_sample_size * pipeline.vae_scale_factor
    size = pictures.size or ground.resolution or native
    requests, drawing = list_requests(pictures), describe_drawing(pictures, size)
    bases = list(draw_pictures(pipeline, requests, drawing))
    with adapted(pipeline, file, zero_terminal_snr=ground.zero_terminal_snr):
        drawn = draw_pictures(pipeline, requests, drawing)
        rows = zip(requests, bases, drawn, strict=True)
        for number, (request, base, tuned) in enumerate(rows):
            described = {
                "prompt": request.prompt,
                "seed": request.seed,
                "size": size,
                "base_model": ground.base_model,
                **pictures.model_dump(
                    include={"negative_prompt", "sampler_steps", "guidance"}, mode="json"
                ),
            }
            stem = out / f"{number:03d}-seed{request.seed}"
            pair = DrawnPair(
                prompt=request.prompt,
                seed=request.seed,
                base=stem.with_name(f"{stem.name}-base.png"),
                adapted=stem.with_name(f"{stem.name}-adapted.png"),
                pair=stem.with_name(f"{stem.name}-pair.png"),
            )
            save_picture(base, pair.base, {**described, "adapter": None})
            save_picture(tuned, pair.adapted, {**described, "adapter": str(file)})
            both = {**described, "adapter": str(file), "left": "base", "right": "adapted"}
            save_picture(side_by_side(base, tuned), pair.pair, both)
            yield pair
