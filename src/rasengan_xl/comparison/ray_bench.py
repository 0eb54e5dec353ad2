"""What carries an order out on a machine of a Ray cluster, in a folder of its own."""

import queue
import tempfile
import threading
from collections.abc import Iterator
from typing import Literal

from rasengan_xl.comparison.orders import ORDERS, Order, encode_progress
from rasengan_xl.comparison.parcels import pack, unpack
from rasengan_xl.comparison.process import WorkerFailedError, run_worker
from rasengan_xl.comparison.scratch import Scratch
from rasengan_xl.comparison.stopping import Stop
from rasengan_xl.runs.records import Record

_MESSAGES_AHEAD = 64
"""Which may wait to be fetched; pieces of a parcel are large."""
_SECONDS_TO_HEAR = 1.0
"""How long a fetch waits for something to be said."""


class Outcome(Record):
    """How an order ended: always the last thing that is said."""

    reason: str | None = None
    """Why it failed; None when it did not."""
    by_user: bool = False
    lost: bool = False
    said: str = ""
    """What the worker's libraries said, if it failed."""


Message = tuple[Literal["progress", "outcome"], str] | tuple[Literal["piece"], bytes]
"""Progress as a worker writes it; pieces of the packed output; at last the outcome, as JSON."""


class Bench:
    """Takes an order, has a worker carry it out here, and hands what happens to who asks.

    It is asked, rather than speaking itself, since that also works through a `ray://` address.
    """

    def __init__(self) -> None:
        self._scratch = Scratch()
        self._root = self._scratch.path / "root"
        self._inputs = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the bench
        self._messages: queue.Queue[Message] = queue.Queue(_MESSAGES_AHEAD)
        self._stop = Stop()

    def receive(self, piece: bytes) -> None:
        """Take a piece of the packed inputs."""
        self._inputs.write(piece)

    def begin(self, order: str) -> None:
        """Unpack what has been received, and start on an order, which is JSON."""
        unpack(self._inputs, self._root)
        here = ORDERS.validate_json(order).model_copy(update={"root": self._root})
        threading.Thread(target=self._carry_out, args=(here,), daemon=True).start()

    def fetch(self) -> list[Message]:
        """Hand over what has happened since, waiting a little for something."""
        try:
            heard = [self._messages.get(timeout=_SECONDS_TO_HEAR)]
        except queue.Empty:
            return []
        while heard[-1][0] == "progress":  # pieces, which are large, go one by one
            try:
                heard.append(self._messages.get_nowait())
            except queue.Empty:
                break
        return heard

    def stop(self) -> None:
        """Have the worker stop, with time to save."""
        self._stop.ask()

    def leave(self) -> None:
        """Remove what was written here."""
        self._inputs.close()
        self._scratch.remove()

    def _carry_out(self, order: Order) -> None:
        try:
            for message in self._say(order):
                self._messages.put(message)
        except Exception as error:  # whoever asks must hear of an end, whatever it is
            reason = f"{type(error).__name__}: {error}"
            self._messages.put(("outcome", Outcome(reason=reason).model_dump_json()))

    def _say(self, order: Order) -> Iterator[Message]:
        log, outcome = self._scratch.path / "log", Outcome()
        try:
            for record in run_worker(order, log, stop=self._stop):
                yield "progress", encode_progress(record)
        except WorkerFailedError as failure:
            said = log.read_text(encoding="utf-8") if log.exists() else ""
            outcome = Outcome(
                reason=str(failure), by_user=failure.by_user, lost=failure.lost, said=said
            )
        # What was written is of use also where the work failed: it can be continued, or explains.
        for piece in pack(order.root, order.outputs):
            yield "piece", piece
        yield "outcome", outcome.model_dump_json()
