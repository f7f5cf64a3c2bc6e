"""What Ctrl-C means during a job: once, stop at the next shard; twice, stop now."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class StopRequest:
    """Whether somebody asked the job to stop."""

    made: bool = False


@contextmanager
def stop_on_interrupt(notify: Callable[[], None]) -> Generator[StopRequest]:
    """Turn the first SIGINT into a request, and leave the second what it was: a KeyboardInterrupt.

    Nothing changes outside the main thread, where Python delivers no signals, or where SIGINT is ignored, as in a
    shell's background jobs.

    Args:
        notify: called from the signal handler at the first SIGINT.
    """
    request = StopRequest()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before in (signal.SIG_IGN, None):
        yield request
        return

    def handle(*_: object) -> None:
        if request.made:
            raise KeyboardInterrupt
        request.made = True
        notify()

    signal.signal(signal.SIGINT, handle)
    try:
        yield request
    finally:
        signal.signal(signal.SIGINT, before)
