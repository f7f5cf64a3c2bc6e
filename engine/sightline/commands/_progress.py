"""How far a job is, on stderr: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from sightline.job.run import Progress

PLAIN_INTERVAL = 5.0  # seconds between plain lines
LOGGER = logging.getLogger("sightline")  # what long work says of itself, step by step


class ProgressLine:
    """Shows what a job reports; a context manager, so that the terminal is left as it was."""

    def __init__(self, what: str):
        self._what = what
        self._last = time.monotonic()
        self._bar: Bar | None = None
        self._stopping = False
        self._note = ""
        self._listener = _Listener(self.note)

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console  # plain lines need none of it
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
            )  # fmt: skip
            self._bar = Bar(*columns, console=Console(stderr=True))
            self._bar.start()
            self._task = self._bar.add_task(self._what, total=None, rate="")
        self._level = LOGGER.level
        LOGGER.setLevel(logging.INFO)
        LOGGER.addHandler(self._listener)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        LOGGER.removeHandler(self._listener)
        LOGGER.setLevel(self._level)
        if self._bar is not None:
            self._bar.stop()

    def note(self, text: str) -> None:
        """Say how the work under way stands: beside the bar, or now and then in a line."""
        self._note = text
        if self._bar is not None:
            self._bar.update(self._task, description=f"{self._what}: {text}")
        elif time.monotonic() - self._last >= PLAIN_INTERVAL:
            self._last = time.monotonic()
            self._say(f"{self._what}: {text}")

    def __call__(self, progress: Progress) -> None:
        """Show where the job stands."""
        if progress.stopping and not self._stopping:
            self._stopping = True
            why = f" ({progress.why})" if progress.why else ""
            now = "press Ctrl-C again to stop now" if progress.interrupted else "Ctrl-C twice stops it now"
            self._say(f"Stopping once what is begun is finished{why}; {now}.")
        if self._bar is not None:
            rate = f"{progress.rate:.1f}/s"
            self._bar.update(self._task, completed=progress.done, total=progress.total, rate=rate)
        elif time.monotonic() - self._last >= PLAIN_INTERVAL:
            self._last = time.monotonic()
            left = "" if progress.seconds_left is None else f", {progress.seconds_left:.0f} s left"
            self._say(f"{self._what}: {progress.done} of {progress.total}, {progress.rate:.1f}/s{left}{self._told}")

    @property
    def _told(self) -> str:
        return f"; {self._note}" if self._note else ""

    def _say(self, text: str) -> None:
        (self._bar.console.print if self._bar is not None else _print)(text)


def _print(text: str) -> None:
    print(text, file=sys.stderr)


class _Listener(logging.Handler):
    """Hands on what is logged."""

    def __init__(self, tell: Callable[[str], None]):
        super().__init__(logging.INFO)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(record.getMessage())
