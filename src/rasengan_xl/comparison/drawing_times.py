"""How long pictures take to draw."""

from rasengan_xl.comparison.facts import DrawingTime
from rasengan_xl.generation.requests import Drawing
from rasengan_xl.generation.timing import TimedBatch
from rasengan_xl.runs.cost import quantile


class Times:
    """How long the pictures of one kind take, in full batches; the first one is left out."""

    def __init__(self) -> None:
        self._each: list[float] = []
        self._sampler_steps = 0
        self._is_warm = False

    def add(self, batch: TimedBatch, drawing: Drawing) -> None:
        """Take note of a batch."""
        self._sampler_steps = drawing.sampler_steps
        if self._is_warm and len(batch.pictures) == drawing.batch_size:
            self._each += [batch.seconds / len(batch.pictures)] * len(batch.pictures)
        self._is_warm = True

    def summarise(self) -> DrawingTime | None:
        """Return median and quartiles; None where nothing was timed."""
        each = sorted(self._each)
        if not each:
            return None
        return DrawingTime(
            median=quantile(each, 0.5),
            p25=quantile(each, 0.25),
            p75=quantile(each, 0.75),
            n=len(each),
            sampler_steps=self._sampler_steps,
        )
