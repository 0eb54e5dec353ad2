"""The options of `rasengan generate`."""

from pathlib import Path
from typing import Annotated

import typer

_EMPHASIS = "(word:1.3), (word)1.3 or word++ weighs words; \\( is a parenthesis anywhere."


def generate(
    adapters: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN|ADAPTER", help="Runs' folders or adapters' files."),
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help=f"What to draw; repeatable. {_EMPHASIS}")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='Prompts, one a line; lines that begin with # are left out. .jsonl: {"prompt", '
            '"negative_prompt", "seed", "size"} a line.',
        ),
    ] = None,
    held_out: Annotated[
        int | None,
        typer.Option(metavar="N", help="Captions of N pictures the run was not trained on."),
    ] = None,
    negative_prompt: Annotated[
        str | None, typer.Option(help="What not to draw [zeros, as SDXL was trained with].")
    ] = None,
    seed: Annotated[
        list[str] | None,
        typer.Option(metavar="N|N-M", help="Fixes the first noise; repeatable [0]."),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Sampler: euler, euler-a, dpm++2m-karras, unipc, heun, ddim, lcm, ... or as "
            'A1111 spells it, "DPM++ 2M Karras" [the model\'s own].',
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Sampler steps.")] = 30,
    guidance: Annotated[
        float, typer.Option(help="Scale of classifier-free guidance; 1: none.")
    ] = 5.0,
    guidance_rescale: Annotated[
        float, typer.Option(help="0 to 1: against too much contrast of guided pictures.")
    ] = 0.0,
    size: Annotated[
        str | None, typer.Option(metavar="N|WxH", help="In pixels [as trained].")
    ] = None,
    aspect: Annotated[
        str | None, typer.Option(metavar="W:H", help="The nearest size SDXL was trained at.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Pictures drawn at once.")] = 1,
    weights: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Of several adapters, one each [1,1,...].")
    ] = None,
    strength: Annotated[
        str, typer.Option(metavar="S[,S...]", help="0: the base, 1: the adapter; several: a sweep.")
    ] = "1",
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Sweep over what the run has kept.")
    ] = False,
    no_base: Annotated[
        bool, typer.Option("--no-base", help="Do not draw with the base alone, too.")
    ] = False,
    from_picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Start from a picture (img2img).")
    ] = None,
    denoise: Annotated[
        float | None, typer.Option(help="How much of that picture is drawn anew, to 1 [0.6].")
    ] = None,
    memory: Annotated[
        str,
        typer.Option(
            metavar="auto|full|low|lower|lowest",
            help="Less memory, more time; auto: as the free memory asks for.",
        ),
    ] = "auto",
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the UNet first: for many pictures.")
    ] = False,
    base: Annotated[str | None, typer.Option(help="Base model, if not the run's own.")] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for the pictures, numbered on from those there.")
    ] = Path("pictures"),
) -> None:
    """Draw base beside adapted; sweep strengths or checkpoints; put all on one sheet."""
    from rasengan_xl.cli.drawing import Asked, show_drawing
    from rasengan_xl.config.requests import drawing_settings

    settings = drawing_settings(
        negative_prompt=negative_prompt,
        seeds=tuple(seed or (0,)),
        sampler_steps=steps,
        guidance=guidance,
        guidance_rescale=guidance_rescale,
        scheduler=scheduler,
        size=size,
        aspect=aspect,
        batch_size=batch,
        strengths=strength,
        weights=weights or (),
        checkpoints=checkpoints,
        with_base=not no_base,
        from_picture=None if from_picture is None else str(from_picture),
        denoise=denoise,
        memory=memory,
        compiled=compiled,
    )
    asked = Asked(
        adapters=tuple(adapters or ()),
        prompts=tuple(prompt or ()),
        prompt_file=prompts,
        held_out=held_out,
        settings=settings,
        base_model=base,
        out=out,
    )
    show_drawing(asked)
