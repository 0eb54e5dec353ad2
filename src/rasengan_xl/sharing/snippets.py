"""The lines of code on a card, by which others use the adapter."""

import shlex
from dataclasses import dataclass

from rasengan_xl.config.settings import RunSettings
from rasengan_xl.runs.folder import ADAPTER_FILE, RunFolder
from rasengan_xl.sharing.markdown import Markdown, on_one_line
from rasengan_xl.sharing.pictures import Asked
from rasengan_xl.sharing.places import Origins
from rasengan_xl.sources.embedded import EMBEDDED

DEFAULT_STEPS, DEFAULT_GUIDANCE = 30, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snippets:
    """Code that stands in fences, where Markdown's signs mean nothing."""

    diffusers: Markdown
    download: Markdown | None
    """Absent where the card lies beside the adapter."""
    generate: Markdown
    export: Markdown


def write_snippets(
    folder: RunFolder, origins: Origins, asked: Asked, hub_id: str | None
) -> Snippets:
    """Write code that draws what was asked for.

    Args:
        folder: The run's.
        origins: What its base may be called.
        asked: A picture, best one that the card shows.
        hub_id: Where the adapter can be had; absent: in the folder where the code is run.
    """
    place = hub_id.partition("/")[2] if hub_id else "."
    prompt = shlex.quote(on_one_line(asked.prompt))
    base = "" if origins.base_is_public else f" --base path/to/{shlex.quote(origins.base_model)}"
    download = f"hf download {hub_id} --local-dir {place}" if hub_id else None
    return Snippets(
        diffusers=Markdown(_diffusers(folder.read_settings(), origins, asked, hub_id or ".")),
        download=Markdown(download) if download else None,
        generate=Markdown(f"rasengan generate {place} --prompt={prompt} --seed {asked.seed}{base}"),
        export=Markdown(f"rasengan export {place} --to comfyui"),
    )


def _diffusers(settings: RunSettings, origins: Origins, asked: Asked, place: str) -> str:
    size = asked.size or settings.dataset.resolution
    prompt = on_one_line(asked.prompt)
    negative = asked.negative_prompt
    lines = [
        "import torch",
        "from diffusers import StableDiffusionXLPipeline",
        *(["from rasengan_xl.mini import MODEL_FOLDER"] if origins.base_model == EMBEDDED else []),
        "",
        'device = "cuda" if torch.cuda.is_available() else "cpu"',
        "pipeline = StableDiffusionXLPipeline.from_pretrained(",
        f"    {_base(origins)},",
        '    torch_dtype=torch.float16 if device == "cuda" else torch.float32,',
        ").to(device)",
        f'pipeline.load_lora_weights("{place}", weight_name="{ADAPTER_FILE}")',
        *(_PURE_NOISE if settings.objective.zero_terminal_snr else ()),
        "picture = pipeline(",
        f"    {prompt!r},",
        *([f"    negative_prompt={on_one_line(negative)!r},"] if negative is not None else []),
        f"    num_inference_steps={asked.sampler_steps or DEFAULT_STEPS},",
        f"    guidance_scale={asked.guidance or DEFAULT_GUIDANCE},",
        f"    height={asked.height or size},",
        f"    width={asked.width or size},",
        f"    generator=torch.Generator().manual_seed({asked.seed}),",
        ").images[0]",
        'picture.save("picture.png")',
    ]
    return "\n".join(lines)


_PURE_NOISE = (
    "pipeline.scheduler = type(pipeline.scheduler).from_config(  # it begins from pure noise",
    "    pipeline.scheduler.config,",
    "    rescale_betas_zero_snr=True,",
    '    timestep_spacing="trailing",',
    ")",
)


def _base(origins: Origins) -> str:
    if origins.base_model == EMBEDDED:
        return "MODEL_FOLDER"
    return repr(origins.base_model if origins.base_is_public else f"path/to/{origins.base_model}")
