"""The ``rasengan`` command: parse, call one function of the library, show.

Nothing heavy is imported before a verb needs it, so that help comes at once.
"""

import os
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from rasengan_xl.cli.generating import generate
from rasengan_xl.cli.quiet import quieten_imports
from rasengan_xl.config.command_line import write_command
from rasengan_xl.errors import RasenganError, RecipeError, SharedError
from rasengan_xl.loading import loading

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # help has [defaults] in brackets
    pretty_exceptions_enable=False,
    help="Fine-tune SDXL on a picture style with LoRA, QLoRA and DoRA, and compare the methods.",
)
recipes_app = typer.Typer(help="List, show or copy the recipes that ship with the package.")
app.add_typer(recipes_app, name="recipes")

Recipe = Annotated[str, typer.Argument(help="A TOML file, or a name from `rasengan recipes`.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key: --set adapter.rank=8."),
]
Trackers = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        metavar="tensorboard|wandb|trackio",
        help="Also write every step there; repeatable.",
    ),
]


@app.command()
def compare(
    name: Annotated[str, typer.Argument(help="A comparison's name or TOML file.")] = "mini",
    overrides: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for runs, pictures and page [comparisons/NAME]; what is finished there "
            "is kept."
        ),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="ARM", help="Train this arm only; repeatable.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run, and what it would cost.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(help="Runs at once [one on each GPU; 1 on a CPU].")
    ] = None,
    on: Annotated[
        str, typer.Option(metavar="here|ray|ADDRESS", help="This machine, or a Ray cluster.")
    ] = "here",
    watch: Annotated[
        bool, typer.Option("--watch", help="Serve the growing report to this machine.")
    ] = False,
    track: Trackers = None,
) -> None:
    """Train every arm under identical conditions, then write report.html."""
    with loading():
        from rasengan_xl.cli.comparing import show_comparison
        from rasengan_xl.cli.planning import Request, show_plan
        from rasengan_xl.config.comparison import load_comparison
        from rasengan_xl.trackers.opening import check_trackers

    settings = load_comparison(name, overrides or ())
    if any(arm.adapter.start_from is not None for arm in settings.arms.values()):
        from rasengan_xl.comparison.start_arms import settle_arms

        settings = settle_arms(settings, overrides or ())
    request = Request(
        settings=settings,
        folder=out or Path("comparisons") / settings.name,
        only=tuple(only or ()),
        command=write_command("compare", name, overrides or (), out),
        trackers=check_trackers(track or ()),
    )
    if dry_run:
        show_plan(request)
    else:
        show_comparison(request, on=on, jobs=jobs, watch=watch)


@app.command()
def train(
    recipe: Recipe,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder [runs/RECIPE].")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    start_from: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="RUN|ADAPTER", help="Go on from this adapter, of any trainer."
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(min=0, help="Held-out captions to draw for the run's card; 0: none.")
    ] = 2,
    track: Trackers = None,
) -> None:
    """Train one adapter."""
    with loading():
        from rasengan_xl.cli.verbs import settle_recipe, show_training
    from rasengan_xl.trackers.opening import check_trackers

    with _first_of_this_machine_speaking():
        trackers = check_trackers(track or ())
        settings = settle_recipe(recipe, overrides or (), start_from)
    folder = out or Path("runs") / Path(recipe).stem
    show_training(settings, folder, resume=resume, samples=samples, trackers=trackers)


_TIME_TO_SPEAK_SECONDS = 5


@contextmanager
def _first_of_this_machine_speaking() -> Generator[None]:
    """Under `torchrun`, have a mistake that all processes of a machine find told by one."""
    try:
        yield
    except RasenganError as mistake:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            raise
        # torchrun ends all others as soon as one has ended: the one that speaks goes first.
        time.sleep(_TIME_TO_SPEAK_SECONDS)
        raise SharedError(str(mistake)) from mistake


app.command()(generate)


@app.command()
def share(
    run: Annotated[Path, typer.Argument(help="The run's folder.")],
    to: Annotated[str, typer.Option(metavar="OWNER/NAME", help="Repository on the hub.")],
    private: Annotated[bool, typer.Option("--private", help="For its owner only.")] = False,
    licence: Annotated[
        str | None,
        typer.Option("--license", help="Of the adapter, as the hub calls it [the base's]."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Agree beforehand.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be uploaded, and stop.")
    ] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Even if it was broken off or failed verification.")
    ] = False,
) -> None:
    """Upload card, adapter and samples to the hub, after you have agreed."""
    from rasengan_xl.cli.sharing import Sharing, show_sharing

    show_sharing(
        Sharing(
            path=run,
            repo_id=to,
            private=private,
            licence=licence,
            anyway=anyway,
            agreed=yes,
            dry_run=dry_run,
        )
    )


@app.command()
def verify(
    adapter: Annotated[Path, typer.Argument(metavar="RUN|ADAPTER", help="A run's folder or file.")],
    base: Annotated[
        str | None, typer.Option(help="Base model [the run's own, if it is here].")
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Show each layer, not only the blocks.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document, and nothing else.")
    ] = False,
) -> None:
    """Prove that an adapter is whole and really applied; exit status 1 if a check fails."""
    from rasengan_xl.cli.verifying import show_verification

    show_verification(adapter, base, each_layer=layers, as_json=as_json)


@app.command()
def export(
    adapters: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN|ADAPTER...", help="A run's folder or file; of several, one is made."
        ),
    ],
    to: Annotated[
        str,
        typer.Option(
            metavar="diffusers|kohya|comfyui|a1111|merged",
            help="Who will read it; merged: the base model with the adapter in it.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="What to write: a .safetensors file, or a folder in diffusers' layout "
            "[./NAME-PROGRAM.safetensors]."
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="PROGRAM@VERSION",
            help="Write DoRA as that version computes it: comfyui@0.3.77, lycoris@3.2 [as a plain "
            "LoRA that all versions read alike].",
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="fp16|bf16|fp32",
            help="Precision [the adapter's own; merged or approximated: fp16].",
        ),
    ] = None,
    rank: Annotated[int | None, typer.Option(help="Bring every layer to this rank.")] = None,
    residual: Annotated[
        float | None,
        typer.Option(
            help="Lower every layer's rank as far as this share of its change is left out [as it "
            "is; 0.05 for what must be made a plain LoRA]."
        ),
    ] = None,
    strength: Annotated[float, typer.Option(help="Bake a strength in.")] = 1.0,
    weights: Annotated[
        str | None,
        typer.Option(metavar="W1,W2", help="Weights of several adapters [1 for each]."),
    ] = None,
    merge: Annotated[
        str,
        typer.Option(
            metavar="linear|svd|ties|dare",
            help="How several become one: their sum; the sum brought to a rank; TIES or DARE.",
        ),
    ] = "linear",
    density: Annotated[
        float, typer.Option(help="Share of each adapter's numbers that TIES and DARE keep.")
    ] = 0.5,
    seed: Annotated[int, typer.Option(help="Of DARE's chance.")] = 0,
    base: Annotated[str | None, typer.Option(help="Base model [the run's own].")] = None,
) -> None:
    """Write an adapter for another program, and check what that will make of it."""
    from rasengan_xl.cli.exporting import show_export
    from rasengan_xl.config.requests import export_settings

    settings = export_settings(
        to=to,
        target=target,
        dtype=dtype,
        rank=rank,
        residual=residual,
        strength=strength,
        weights=None if weights is None else tuple(weights.split(",")),
        merge=merge,
        density=density,
        seed=seed,
    )
    names = [each.resolve().name.removesuffix(".safetensors") for each in adapters]
    show_export(adapters, base, out or Path(f"{'-'.join([*names, to])}.safetensors"), settings)


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="Folders of comparisons.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the page that puts several together [./joined].")
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve a growing report to this machine.")
    ] = False,
) -> None:
    """Rebuild the page from the numbers; put several comparisons on one."""
    with loading():
        from rasengan_xl.cli.comparing import serve_report, show_report

    if serve:
        serve_report(folders, out)
    else:
        show_report(folders, out)


@app.command()
def plan(
    name: Annotated[
        str, typer.Argument(metavar="RECIPE|COMPARISON", help="A name, or a TOML file.")
    ],
    overrides: Overrides = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            metavar="T4|L4|3090|4090|A100|A100-80GB|H100|H200",
            help="Where it is to run [this machine's GPU; without one, each of these].",
        ),
    ] = None,
    memory_gib: Annotated[
        float | None, typer.Option(min=0.5, help="Or: the memory that it is to fit into.")
    ] = None,
    price_per_hour: Annotated[
        float | None, typer.Option(min=0, help="Of the GPU, to tell what it will cost.")
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Take a few real steps here, to see how far it is off.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document, and nothing else.")
    ] = False,
) -> None:
    """Tell whether it fits and how long it takes, before anything is downloaded."""
    with loading():
        from rasengan_xl.cli.foretelling import Question, choose_gpus, read_arms, show_plans

    if probe and as_json:
        raise RecipeError("--probe: is told in words, not in --json; leave one of them out")
    arms, seeds = read_arms(name, overrides or ())
    question = Question(
        arms=arms,
        seeds=seeds,
        gpus=choose_gpus(gpu, memory_gib),
        price_per_hour=price_per_hour,
        probe=probe,
    )
    show_plans(question, as_json=as_json)


@app.command()
def prepare(
    recipe: Recipe,
    overrides: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the account and contact sheets [prepared/RECIPE]."),
    ] = None,
) -> None:
    """Check the dataset, encode it once, show what happens to each picture."""
    from rasengan_xl.cli.verbs import show_preparation
    from rasengan_xl.config.recipe import load_recipe

    settings = load_recipe(recipe, overrides or ())
    show_preparation(settings, out or Path("prepared") / Path(recipe).stem)


@recipes_app.callback(invoke_without_command=True)
def list_recipes(context: typer.Context) -> None:
    """List the recipes that ship with the package."""
    if context.invoked_subcommand is None:
        from rasengan_xl.cli.verbs import show_recipes

        show_recipes()


@recipes_app.command("show")
def show_recipe(
    name: Annotated[str, typer.Argument(help="A recipe's or comparison's name.")],
) -> None:
    """Print a recipe."""
    from rasengan_xl.config.shipped import find_shipped

    typer.echo(find_shipped(name).read_text(encoding="utf-8"), nl=False)


@recipes_app.command("copy")
def copy_recipe(
    name: Annotated[str, typer.Argument(help="A recipe's or comparison's name.")],
    to: Annotated[Path | None, typer.Argument(help="File to write [./NAME.toml].")] = None,
) -> None:
    """Copy a recipe, to change it."""
    from rasengan_xl.config.shipped import copy_shipped

    typer.echo(f"{copy_shipped(name, to or Path(f'{name}.toml'))}")


def main() -> None:
    """Run the command; turn a user's mistake into one line and its exit status, mostly 2."""
    quieten_imports()
    try:
        app()
    except RasenganError as error:
        if not isinstance(error, SharedError):
            typer.echo(f"error: {error}", err=True)
        sys.exit(error.status)


if __name__ == "__main__":
    main()
