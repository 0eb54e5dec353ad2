"""Rows as Markdown: what was measured, what was counted, what failed."""

from collections.abc import Callable, Sequence

from benchmarks.training_step.rows import Row

Cell = Callable[[Row], object]
MEASURED: dict[str, Cell] = {
    "arm": lambda row: row.arm.name,
    "images/s": lambda row: shown(row.images_per_second, ".2f"),
    "ms/step": lambda row: row.milliseconds and shown(row.milliseconds.median, ".1f"),
    "quartiles": lambda row: (
        row.milliseconds and f"{row.milliseconds.p25:.1f}-{row.milliseconds.p75:.1f}"
    ),
    "n": lambda row: row.milliseconds and row.milliseconds.n,
    "kernels launched": lambda row: shown(row.kernels, ",d"),
    "allocated GiB": lambda row: shown(row.peak_allocated_gib, ".2f"),
    "reserved GiB": lambda row: shown(row.peak_reserved_gib, ".2f"),
    "TFLOP/s": lambda row: shown(row.teraflops_per_second, ".3g"),
    "of peak": lambda row: shown(row.share_of_peak, ".1%"),
    "loss off by": lambda row: row.agreement and f"{row.agreement.loss:.1e}",
    "gradients off by": lambda row: row.agreement and f"{row.agreement.gradients:.1e}",
    "finite": lambda row: {True: "yes", False: "NO", None: ""}[row.is_finite],
    "skipped": lambda row: row.skipped_steps,
    "told": lambda row: "; ".join(row.notes),
}
COUNTED: dict[str, Cell] = {
    "arm": lambda row: row.arm.name,
    "operations forward": lambda row: row.counts and f"{row.counts.operations_forward:,}",
    "backward": lambda row: row.counts and f"{row.counts.operations_backward:,}",
    "both": lambda row: row.counts and f"{row.counts.operations:,}",
    "kept GiB": lambda row: row.counts and f"{row.counts.saved_gib:.2f}",
    "model TFLOP": lambda row: row.counts and f"{row.counts.model_teraflop:.2f}",
}
FAILED: dict[str, Cell] = {"arm": lambda row: row.arm.name, "failed": lambda row: row.failure}


def render(rows: Sequence[Row]) -> str:
    """Return all rows as one Markdown table for each basis."""
    parts: list[str] = []
    for basis, columns in (
        ("measured", MEASURED), ("counted on meta tensors", COUNTED), ("failed", FAILED)
    ):  # fmt: skip
        chosen = [row for row in rows if row.basis == basis]
        if chosen:
            parts.append(f"{heading(basis, chosen)}\n\n{tabulate(chosen, columns)}")
    return "\n\n".join(parts) + "\n"


def heading(basis: str, rows: Sequence[Row]) -> str:
    """Say where and how the rows came about."""
    if basis != "measured":
        return f"**{basis.capitalize()}**"
    devices = sorted({f"{row.device}, torch {row.torch_version}" for row in rows})
    peaks = {
        row.arm.precision: row.matmul_teraflops_per_second
        for row in rows
        if row.matmul_teraflops_per_second
    }
    told = "; ".join(f"{p} matrix product {rate:.3g} TFLOP/s" for p, rate in peaks.items())
    return f"**Measured** on {' and '.join(devices)}" + (f"; {told}" if told else "")


def tabulate(rows: Sequence[Row], columns: dict[str, Cell]) -> str:
    """Return one Markdown table."""
    lines = [list(columns), ["---", *["---:"] * (len(columns) - 1)]]
    lines += [[_plain(cell(row)) for cell in columns.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(value: float | None, form: str) -> str:
    """Format a figure, if there is one."""
    return "" if value is None else format(value, form)


def _plain(cell: object) -> str:
    return "" if cell is None else str(cell).replace("|", "/")
