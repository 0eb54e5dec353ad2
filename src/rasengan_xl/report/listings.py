"""What a comparison holds beside measures and verdicts, as plain tables."""

from rasengan_xl.comparison.result import ArmResult, Comparison, RunResult
from rasengan_xl.evaluation.records import OnBothBases
from rasengan_xl.report.data_tables import DataTable, Value
from rasengan_xl.report.measure_table import list_estimate
from rasengan_xl.report.settings import list_differences
from rasengan_xl.runs.engine_words import tell_engine

_ENDS = ("", "_low", "_high", "_pictures", "_seeds")


def list_everything(comparison: Comparison) -> list[DataTable]:
    """Make a table of every further part of a comparison."""
    return [
        _list_runs(comparison),
        _list_checkpoints(comparison),
        _list_quantization(comparison),
        _list_equal_time(comparison),
        _list_sweep(comparison),
        _list_nearest(comparison),
        _list_settings(comparison),
    ]


def summarize_runs(comparison: Comparison) -> DataTable:
    """List every run by what people ask first; `runs.csv` has the rest."""
    columns = ("arm", "seed", "status", "steps", "seconds", "seconds_per_step")
    columns += ("peak_memory_gib", "training_loss", "skipped_steps", "joules_per_step")
    full = _list_runs(comparison)
    places = [full.columns.index(column) for column in columns]
    return DataTable(
        name=full.name,
        title="Every run",
        columns=columns,
        rows=[tuple(row[place] for place in places) for row in full.rows],
    )


def _list_runs(comparison: Comparison) -> DataTable:
    return DataTable(
        name="runs",
        title="Runs",
        columns=(
            *("arm", "seed", "status", "reason", "attempts", "run", "steps", "seconds"),
            *("seconds_per_step", "seconds_per_step_p25", "seconds_per_step_p75"),
            *("seconds_per_step_n", "peak_memory_gib", "peak_memory_reserved_gib", "memory_kind"),
            *("training_loss", "training_loss_steps", "skipped_steps", "loader_idle_share"),
            *("joules_per_step", "trainable_parameters", "adapter_bytes", "trace_hash"),
            "engine",
        ),
        rows=[_list_run(arm, run) for arm in comparison.arms for run in arm.runs],
    )


def _list_run(arm: ArmResult, run: RunResult) -> tuple[Value, ...]:
    summary = run.summary
    begin = (arm.name, run.seed, run.status, run.reason, run.attempts, run.run)
    if summary is None:
        return (*begin, None, run.seconds, *(None,) * 16)
    speed, idle = summary.seconds_per_step, summary.loader_idle_share
    return (
        *begin,
        summary.steps,
        run.seconds,
        *((speed.median, speed.p25, speed.p75, speed.n) if speed else (None,) * 4),
        *(summary.peak_memory_gib, summary.peak_memory_reserved_gib, summary.memory_kind),
        *(summary.training_loss, summary.training_loss_steps, summary.skipped_steps),
        idle.mean if idle else None,
        run.joules_per_step,
        *(summary.trainable_parameters, summary.adapter_bytes, summary.trace_hash),
        tell_engine(summary.engine) if summary.engine else None,
    )


def _list_checkpoints(comparison: Comparison) -> DataTable:
    return DataTable(
        name="checkpoints",
        title="Held-out loss on the way",
        columns=("arm", "seed", "step", "seconds", "loss", "standard_error", "n"),
        rows=[
            (arm.name, run.seed, *(p.step, p.seconds, p.loss, p.standard_error, p.n))
            for arm in comparison.arms
            for run in arm.runs
            for p in run.checkpoints
        ],
    )


def _list_quantization(comparison: Comparison) -> DataTable:
    effect = comparison.quantization
    rows: list[tuple[Value, ...]] = []
    if effect is not None:
        all_rows = [("base", base) for base in effect.bases]
        all_rows += effect.arms.items()
        rows = [(name, row.base_precision, *_list_both(row)) for name, row in all_rows]
    kinds = ("on_quantized", "on_full", "difference")
    return DataTable(
        name="quantization",
        title="Held-out loss on both bases",
        columns=("arm", "base_precision", *(f"{kind}{end}" for kind in kinds for end in _ENDS)),
        rows=rows,
    )


def _list_both(row: OnBothBases) -> list[Value]:
    estimates = (row.on_quantized, row.on_full, row.difference)
    return [value for estimate in estimates for value in list_estimate(estimate)]


def _list_equal_time(comparison: Comparison) -> DataTable:
    equal = comparison.equal_time
    return DataTable(
        name="equal_time",
        title="Held-out loss after equal time",
        columns=("arm", "seconds", "steps", "loss", "low", "high", "seeds", "n"),
        rows=[
            (name, equal.seconds, *(a.steps, a.loss, a.low, a.high, a.seeds, a.n))
            for name, a in equal.arms.items()
        ]
        if equal
        else [],
    )


def _list_sweep(comparison: Comparison) -> DataTable:
    columns = ("arm", "learning_rate", "status", "reason", "tuning_loss", "standard_error", "n")
    return DataTable(
        name="learning_rates",
        title="Learning rates tried",
        columns=(*columns, "chosen"),
        rows=[
            (
                *(name, trial.learning_rate, trial.status, trial.reason, trial.tuning_loss),
                *(trial.standard_error, trial.n, trial.chosen),
            )
            for name, trials in comparison.sweep.items()
            for trial in trials
        ],
    )


def _list_nearest(comparison: Comparison) -> DataTable:
    return DataTable(
        name="nearest",
        title="Nearest training pictures",
        columns=("arm", "seed", "prompt", "drawn", "training", "training_name", "similarity"),
        rows=[
            (
                *(near.arm, near.seed, near.prompt, near.drawn, near.training),
                near.training_name,
                near.similarity,
            )
            for near in comparison.nearest
        ],
    )


def _list_settings(comparison: Comparison) -> DataTable:
    return DataTable(
        name="differing_settings",
        title="Settings that differ",
        columns=("setting", *(arm.name for arm in comparison.arms)),
        rows=[(each.key, *each.values) for each in list_differences(comparison.arms)],
    )
