"""A sink for a run's figures that can fail without harm to the run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rasengan_xl.runs.records import StepRecord

Scalars = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink:
    """What a library offers, as two functions."""

    write: Callable[[Scalars, int], None]
    """Takes values by name, and the step they belong to."""
    end: Callable[[], None]
    """Keeps what has not been kept yet."""


class Tracker:
    """Writes down figures until its library fails; from then on it does nothing."""

    def __init__(self, kind: str, sink: Sink) -> None:
        self.kind = kind
        self._sink: Sink | None = sink
        self._failure: str | None = None

    @property
    def failure(self) -> str | None:
        """How its library failed, in one line; None while it has not."""
        return self._failure

    def log(self, record: StepRecord) -> None:
        """Write down what a step measured."""
        self._write(step_scalars(record), record.step)

    def log_loss(self, step: int, held_out_loss: float) -> None:
        """Write down what was measured on held-out pictures after a step."""
        self._write({"held_out_loss": held_out_loss}, step)

    def close(self) -> None:
        """Keep everything; nothing can be written any more."""
        sink, self._sink = self._sink, None
        if sink is not None:
            self._try(sink.end)

    def _write(self, scalars: Scalars, step: int) -> None:
        sink = self._sink
        if sink is not None:
            self._try(lambda: sink.write(scalars, step))

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # whatever it is, hours of training are worth more
            self._sink = None
            lines = str(error).strip().splitlines()
            self._failure = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def step_scalars(record: StepRecord) -> Scalars:
    """Name the figures of a step as every tracker shows them."""
    scalars = {
        "loss": record.loss,
        "learning_rate": record.learning_rate,
        "seconds_per_step": record.seconds,
        "peak_memory_gib": record.peak_memory_gib,
    }
    if record.gradient_norm is not None:
        scalars["gradient_norm"] = record.gradient_norm
    return scalars
