"""How those who wait for workers are told, from another thread, to wait no longer."""

import threading
from dataclasses import dataclass, field

SECONDS_TO_SAVE = 20.0
"""Which a worker has when it is stopped."""
SECONDS_BETWEEN_LOOKS = 0.2
"""How often a thread that waits for a worker looks whether it shall stop it."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Asked once, work saves and ends; asked to hurry, it ends."""

    asked: threading.Event = field(default_factory=threading.Event)
    hurried: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> None:
        """Have all work stop that listens, with its time to save."""
        self.asked.set()

    def hurry(self) -> None:
        """Have it end at once."""
        self.asked.set()
        self.hurried.set()
