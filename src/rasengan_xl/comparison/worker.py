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

from rasengan_xl.comparison.examine import examine_subjects
from rasengan_xl.comparison.lock import claim_run
from rasengan_xl.comparison.orders import (
    ORDERS,
    Examine,
    Prepare,
    Train,
    encode_error,
    encode_progress,
)
from rasengan_xl.comparison.prepare import prepare_arms
from rasengan_xl.comparison.stopping import SECONDS_TO_SAVE
from rasengan_xl.errors import USER_ERROR_STATUS, RasenganError
from rasengan_xl.runs.records import StageProgress, StepRecord
from rasengan_xl.training.interruption import SIGNALS, Stopped, stop_on_interrupt
from rasengan_xl.training.run import run_training


def carry_out(order: Prepare | Train | Examine) -> Iterator[StageProgress | StepRecord]:
    """Do what an order says, yielding progress."""
    match order:
        case Prepare():
            yield from prepare_arms(order)
        case Train():
            with claim_run(order.folder.path):
                # Another worker may have begun it meanwhile.
                resume = order.resume or order.folder.is_begun
                yield from run_training(order.settings, order.folder, resume=resume)
        case Examine():
            yield from examine_subjects(order)


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
