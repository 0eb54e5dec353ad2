"""Show what was found of an adapter: as tables for people, as JSON for programs."""

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rasengan_xl.adapters.verification.verify import verify_adapter
from rasengan_xl.cli.console import console, follow, progress_board, say
from rasengan_xl.cli.quiet import quieten_progress_bars
from rasengan_xl.errors import FAILED_CHECK_STATUS
from rasengan_xl.runs.verification import LayerChange, LayerKind, Verification

_COLOURS = {"passed": "green", "failed": "bold red", "noted": "yellow", "not checked": "dim"}
_PARTS = {"unet": "UNet", "text_encoder": "text encoder 1", "text_encoder_2": "text encoder 2"}
_BAR_WIDTH = 12


def show_verification(path: Path, base: str | None, *, each_layer: bool, as_json: bool) -> None:
    """Verify an adapter, show what was found, and exit with 1 if something failed."""
    quieten_progress_bars()
    errors = Console(stderr=True)
    with progress_board(where=errors) as board:
        found = follow(verify_adapter(path, base), board.show)
    if as_json:
        sys.stdout.write(found.model_dump_json(indent=2) + "\n")
    else:
        _show_tables(found, each_layer=each_layer)
    if not found.passed:
        sys.exit(FAILED_CHECK_STATUS)


def summarise(found: Verification) -> str:
    """Say in one line what came of it."""
    made = [check for check in found.checks if check.status != "not checked"]
    omitted = len(found.checks) - len(made)
    rest = f", {omitted} not checked" if omitted else ""
    if found.passed:
        layers = f"{len(found.layers)} layer{'' if len(found.layers) == 1 else 's'}"
        return f"passed: {len(made)} checks, {layers}{rest}"
    names = ", ".join(check.name for check in found.failures)
    return f"FAILED: {names}; {len(found.failures)} of {len(made)} checks{rest}"


def _show_tables(found: Verification, *, each_layer: bool) -> None:
    colour = "bold green" if found.passed else "bold red"
    console.print(f"[{colour}]{escape(summarise(found))}[/]", highlight=False, soft_wrap=True)
    for line in _describe(found):
        say(line)
    console.print(_check_table(found))
    if found.layers:
        console.print(_layer_table(found.layers) if each_layer else _block_table(found.layers))


def _describe(found: Verification) -> list[str]:
    """Say what the file is, and on what it was checked."""
    lines = [f"file: {found.adapter}"]
    if found.form:
        lines.append(f"form: {found.form}")
    lines += [f"{_PARTS[kind.part]}: {_describe_kind(kind)}" for kind in found.kinds]
    lines.append(f"base: {found.base or 'none; checked against the shape of SDXL alone'}")
    lines += [f"{name}: {fact}" for name, fact in found.facts.items()]
    return lines + [f"note: {note}" for note in found.notes]


def _describe_kind(kind: LayerKind) -> str:
    ranks, alphas = _describe_values("rank", kind.ranks), _describe_values("alpha", kind.alphas)
    layers = f"{kind.layers} layer{'' if kind.layers == 1 else 's'}"
    return ", ".join(text for text in (f"{kind.kind} on {layers}", ranks, alphas) if text)


def _describe_values(name: str, values: Sequence[float]) -> str:
    if not values:
        return ""
    if len(values) > 3:
        return f"{name} {values[0]:g} to {values[-1]:g}"
    return f"{name} {', '.join(f'{value:g}' for value in values)}"


def _check_table(found: Verification) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title_justify="left")
    table.add_column("check", no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("what was found", overflow="fold")
    for check in found.checks:
        result = Text(check.status, style=_COLOURS[check.status])
        table.add_row(Text(check.name), result, Text(check.detail))
    return table


def _block_table(layers: Sequence[LayerChange]) -> Table:
    """Show the change of each block of the model, as median over its layers."""
    blocks: defaultdict[str, list[LayerChange]] = defaultdict(list)
    for layer in layers:
        blocks[_block_of(layer.layer)].append(layer)
    table = _change_table("block", "layers")
    largest = max((_relative(members) or 0.0 for members in blocks.values()), default=0.0)
    for block, members in blocks.items():
        norms = [layer.change_norm for layer in members if layer.change_norm is not None]
        table.add_row(
            block,
            str(len(members)),
            f"{median(norms):.3g}" if norms else "",
            *_share_and_bar(_relative(members), largest),
        )
    return table


def _layer_table(layers: Sequence[LayerChange]) -> Table:
    table = _change_table("layer", "kind")
    largest = max((layer.relative or 0.0 for layer in layers), default=0.0)
    for layer in layers:
        norm = "" if layer.change_norm is None else f"{layer.change_norm:.3g}"
        table.add_row(Text(layer.layer), layer.kind, norm, *_share_and_bar(layer.relative, largest))
    return table


def _change_table(first: str, second: str) -> Table:
    table = Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), title_justify="left",
        title="\nhow far weights are moved" + (" (median of a block)" if first == "block" else ""),
    )  # fmt: skip
    table.add_column(first, overflow="fold")
    table.add_column(second, justify="right" if second == "layers" else "left")
    table.add_column("norm", justify="right")
    table.add_column("of weight", justify="right")
    table.add_column("", width=_BAR_WIDTH)
    return table


def _share_and_bar(share: float | None, largest: float) -> tuple[str, str]:
    if share is None:
        return "", ""
    return f"{share:.2%}", "█" * round(_BAR_WIDTH * share / largest) if largest else ""


def _relative(layers: Sequence[LayerChange]) -> float | None:
    shares = [layer.relative for layer in layers if layer.relative is not None]
    return median(shares) if shares else None


def _block_of(layer: str) -> str:
    """Name the block of the UNet, or the quarter of a text encoder, that a layer is in."""
    names = layer.split(".")
    if names[0] != "unet":
        return _PARTS[names[0]]
    if names[1] in {"down_blocks", "up_blocks"}:
        return " ".join(("UNet", names[1].removesuffix("_blocks"), *names[2:5]))
    return f"UNet mid {names[2]}" if names[1] == "mid_block" else f"UNet {names[1]}"
