"""One piece of a comparison in a process of its own, so that its memory is its own.

The order comes on standard input; progress goes to standard output, one JSON object a line.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

from rasengan_xl.adapters.attach import check_targets
from rasengan_xl.comparison.orders import (
    ORDERS,
    Draw,
    Prepare,
    Train,
    encode_error,
    encode_progress,
)
from rasengan_xl.comparison.pictures import draw_comparison
from rasengan_xl.comparison.stopping import SECONDS_TO_SAVE
from rasengan_xl.dataset.encoded import encode_dataset
from rasengan_xl.errors import USER_ERROR_STATUS, AdapterError, DeviceError, RasenganError
from rasengan_xl.runs.records import StageProgress, StepRecord
from rasengan_xl.sdxl.components import load_unet_shape
from rasengan_xl.sdxl.compute import choose_compute
from rasengan_xl.sdxl.model_folder import find_model
from rasengan_xl.sdxl.noise_schedule import load_noise_schedule
from rasengan_xl.training.interruption import SIGNALS, Stopped, stop_on_interrupt
from rasengan_xl.training.optimizer import check_optimizer
from rasengan_xl.training.run import run_training


def carry_out(order: Prepare | Train | Draw) -> Iterator[StageProgress | StepRecord]:
    """Do what an order says, yielding progress."""
    match order:
        case Prepare():
            yield from _prepare(order)
        case Train():
            yield from run_training(order.settings, order.folder, resume=order.resume)
        case Draw():
            yield from draw_comparison(order)


def _prepare(order: Prepare) -> Iterator[StageProgress]:
    """Find what would stop any arm before the first begins; encode each dataset once."""
    for name, settings in order.arms.items():
        compute = choose_compute(settings.compute)
        model = find_model(settings.base_model, settings.base_revision)
        load_noise_schedule(model, zero_terminal_snr=settings.objective.zero_terminal_snr)
        try:
            check_optimizer(settings.training, compute.device)
            check_targets(load_unet_shape(model), settings.adapter.targets)
        except (AdapterError, DeviceError) as error:
            raise type(error)(f"arms.{name}: {error}") from error
    for settings in order.arms.values():  # what an earlier arm encoded comes from the cache
        model = find_model(settings.base_model, settings.base_revision)
        yield from encode_dataset(settings, model, choose_compute(settings.compute))


def main() -> None:
    """Read one order, carry it out, and report on standard output."""
    answers = _take_standard_output()
    # Where Ray starts a worker, it hands down a mask that lets no SIGINT through.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    watch = threading.Thread(target=_die_with_reader, args=(answers.fileno(),), daemon=True)
    watch.start()
    order = ORDERS.validate_json(sys.stdin.read())
    try:
        for record in stop_on_interrupt(carry_out(order)):
            answers.write(encode_progress(record) + "\n")
            answers.flush()
    except RasenganError as error:
        answers.write(encode_error(str(error)) + "\n")
        sys.exit(USER_ERROR_STATUS)
    except Stopped as stop:
        sys.exit(stop.status)


def _take_standard_output() -> TextIO:
    """Lead what libraries print, in Python or C, to standard error: it is no answer."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.stdout = sys.stderr
    return answers


def _die_with_reader(descriptor: int) -> None:
    """Stop, with time to save, once nobody can read the answers: whoever asked has died.

    Without this a worker would find out only at its next answer, and hold its GPU until then.
    """
    watch = select.poll()
    watch.register(descriptor, 0)
    watch.poll()  # with nothing asked for, it returns when the other end has been closed
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_SAVE)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
