"""A Ray cluster as the place where the runs of a comparison take place."""

import importlib
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rasengan_xl.comparison.orders import Order, decode_line
from rasengan_xl.comparison.parcels import pack, unpack_in_place
from rasengan_xl.comparison.places import Progress, count
from rasengan_xl.comparison.process import WorkerFailedError
from rasengan_xl.comparison.ray_bench import Bench, Message, Outcome
from rasengan_xl.comparison.stopping import SECONDS_BETWEEN_LOOKS, Stop
from rasengan_xl.errors import DeviceError, RasenganError
from rasengan_xl.runs.records import StageProgress

_LONGEST_REASON = 300
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else it warns of what will change
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # else under `uv run` it sends the working folder along
}


class RayPlace:
    """One run on each GPU of a cluster, or on some of its cores each where it has none.

    The machines need the same version of this package, and the dataset and the base model under
    the names that the recipe gives; the comparison's folder travels.
    """

    def __init__(self, address: str | None = None, cpus_per_run: int = 1) -> None:
        """Join a cluster.

        Args:
            address: Such as `ray://head:10001`, `head:6379` or `auto`; a cluster of this machine
                alone is started if not given.
            cpus_per_run: Cores of each run where the cluster has no GPU.

        Raises:
            DeviceError: Ray is missing, the cluster cannot be reached, or it has too few cores.
        """
        self._ray = _import_ray()
        self._address = address
        self._is_ours = not self._ray.is_initialized()
        if self._is_ours:
            _connect(self._ray, address)
        self._resources: dict[str, float] = self._ray.cluster_resources()
        gpus, cpus = int(self._resources.get("GPU", 0)), int(self._resources.get("CPU", 0))
        self._slots = gpus or cpus // cpus_per_run
        if not self._slots:
            self.close()
            raise DeviceError(
                f"{self._called}: has {count(cpus, 'core')} and no GPU, too few for a run of "
                f"{cpus_per_run}; add a machine to it"
            )
        share = {"num_gpus": 1} if gpus else {"num_cpus": cpus_per_run}
        # It is asked to stop, or to leave, while a fetch waits.
        options = {"max_restarts": 0, "max_task_retries": 0, "max_concurrency": 2, **share}
        self._bench = self._ray.remote(**options)(Bench)

    @property
    def slots(self) -> int:
        """How many orders can go on at once."""
        return self._slots

    def describe(self) -> str:
        """Say in a few words what the place is."""
        nodes = sum(name.startswith("node:") for name in self._resources)
        nodes -= "node:__internal_head__" in self._resources
        kind = "GPU" if self._resources.get("GPU") else "core"
        amount = int(self._resources["GPU" if kind == "GPU" else "CPU"])
        return f"{self._called}, {count(nodes, 'machine')}, {count(amount, kind)}"

    def carry_out(
        self,
        order: Order,
        slot: int,  # noqa: ARG002 - Ray itself chooses which GPU
        log: Path | None,
        stop: Stop,
    ) -> Generator[Progress]:
        """Have an order carried out on some machine of the cluster, which finds one itself.

        What it wrote comes back also when it failed or was stopped; not when the machine, or the
        process of Ray's there, was lost.

        Raises:
            WorkerFailedError: The worker did not come to its end.
        """
        errors = self._ray.exceptions
        try:
            yield from self._carry_out(order, log, stop)
        except RasenganError as error:  # what came back cannot be written here
            raise WorkerFailedError(str(error), by_user=True) from error
        except errors.RayTaskError as error:  # of the code around the worker, or its absence
            raise WorkerFailedError(_last_line(error), by_user=False) from error
        except (errors.RayError, ConnectionError) as error:
            reason = f"the process on the cluster was lost ({type(error).__name__})"
            raise WorkerFailedError(reason, by_user=False, lost=True) from error

    def close(self) -> None:
        """Leave the cluster, unless this process had joined it before."""
        if self._is_ours:
            self._ray.shutdown()

    @property
    def _called(self) -> str:
        return f"Ray at {self._address}" if self._address else "Ray on this machine"

    def _carry_out(self, order: Order, log: Path | None, stop: Stop) -> Generator[Progress]:
        yield StageProgress(stage="wait for a machine", done=0, total=1)
        bench = self._bench.remote()
        try:
            for piece in pack(order.root, order.inputs):
                self._wait(bench.receive.remote(piece), stop.asked)
            self._wait(bench.begin.remote(order.model_dump_json()), stop.asked)
            yield StageProgress(stage="wait for a machine", done=1, total=1)
            with tempfile.TemporaryFile() as output:
                outcome = yield from self._listen(bench, output, stop)
                arrived = _bring_in(output, order)
            self._wait(bench.leave.remote(), stop.hurried)
        finally:
            self._ray.kill(bench)  # its worker sees that nobody listens, and ends
        if outcome.reason is not None:
            if log is not None and outcome.said:
                log.parent.mkdir(parents=True, exist_ok=True)
                log.write_text(outcome.said, encoding="utf-8")
            raise WorkerFailedError(outcome.reason, by_user=outcome.by_user, lost=outcome.lost)
        if order.outputs and not arrived:
            raise WorkerFailedError(
                "the worker on the cluster ended well, but nothing that it wrote came back",
                by_user=False,
            )

    def _listen(
        self, bench: Any, output: IO[bytes], stop: Stop
    ) -> Generator[Progress, None, Outcome]:
        """Pass progress on until the outcome; asked to stop, have the worker save first."""
        is_told = False
        while True:
            if stop.asked.is_set() and not is_told:
                bench.stop.remote()
                is_told = True
            heard: list[Message] = self._wait(bench.fetch.remote(), stop.hurried)
            for message in heard:
                match message:
                    case ("progress", line):
                        yield _progress(line)
                    case ("piece", piece):
                        output.write(piece)
                    case ("outcome", outcome):
                        return Outcome.model_validate_json(outcome)

    def _wait(self, answer: Any, broken_off: threading.Event) -> Any:
        """Wait for an answer from the cluster, looking now and then whether to go on waiting."""
        while not self._ray.wait([answer], timeout=SECONDS_BETWEEN_LOOKS)[0]:
            if broken_off.is_set():
                raise WorkerFailedError("it was stopped", by_user=False, lost=True)
        return self._ray.get(answer)


def _bring_in(output: IO[bytes], order: Order) -> tuple[str, ...]:
    """Put what came back in its place; return the names of what that was."""
    return unpack_in_place(output, order.root, order.outputs) if output.tell() else ()


def _import_ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise DeviceError(
            "--on ray: Ray is not installed; run `pip install 'rasengan-xl[cluster]'`"
        ) from error


def _connect(ray: Any, address: str | None) -> None:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    options = {"include_dashboard": False} if address is None else {}
    try:
        with _keeping_signals():
            ray.init(
                address=address or "local",
                logging_level=logging.ERROR,
                log_to_driver=False,
                **options,
            )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise DeviceError(
            f"--on {address or 'ray'}: the cluster cannot be joined ({_last_line(error)}); check "
            "the address, that it runs the same version of Ray, and RAY_AUTH_MODE if it wants a "
            "token"
        ) from error
    # There is no public switch for what Ray prints, on standard output, of processes that died.
    ray._private.worker._worker_logs_enabled = False  # noqa: SLF001


@contextmanager
def _keeping_signals() -> Generator[None]:
    """Put back what was to happen on SIGTERM, which Ray changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _progress(line: str) -> Progress:
    record = decode_line(line)
    assert not isinstance(record, str)  # errors come as an outcome
    return record


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:_LONGEST_REASON] if lines else type(error).__name__
