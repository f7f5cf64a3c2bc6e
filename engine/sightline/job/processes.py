"""Workers that are processes of this machine."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

from sightline.errors import UsageError
from sightline.job.crew import Hand, Lost
from sightline.job.memory import resident
from sightline.job.work import Advanced, Answer, Begin, Failed, Ready, Task, Worker

WATCH = 0.5  # seconds between two looks for the process that started this one
DISMISSED = "dismissed"  # what is sent instead of a task


class Process:
    """One worker process, seen from the job."""

    def __init__(self, begin: Begin, gpu: str | None = None):
        self.connection, theirs = Pipe()
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),  # noqa: PTH109
            **idle_threads_sleep(),
        }
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        command = [sys.executable, "-m", "sightline.job.processes", str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment)
        theirs.close()
        self.connection.send(begin)

    def give(self, task: Task) -> None:
        with suppress(OSError):  # it died: wait() will tell
            self.connection.send(task)

    def dismiss(self) -> None:
        with suppress(OSError):
            self.connection.send(DISMISSED)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self.connection.close()

    @property
    def lives(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def held(self) -> int:
        return resident(self._process.pid)

    def how_it_ended(self) -> str:
        """In words."""
        code = self._process.wait()
        with suppress(ValueError):
            return signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"signal {-code}"


class Processes:
    """Starts worker processes, among which the machine's cores are divided, and its GPUs in turn.

    Args:
        begin: what each is told.
        count: of them.
        gpus: that they use, each the one that the fewest use; none for workers that use none.
    """

    def __init__(self, begin: Begin, count: int, gpus: Sequence[str] = ()):
        if count < 1:
            raise UsageError(f"--workers {count} must be at least 1.")
        self.count, self._begin = count, begin
        self._users: dict[str, list[Process]] = {gpu: [] for gpu in gpus}

    def start(self) -> Process:
        begin = replace(self._begin, token=secrets.token_hex(4))
        if not self._users:
            return Process(begin)
        living = {gpu: [one for one in users if one.lives] for gpu, users in self._users.items()}
        gpu = min(living, key=lambda one: len(living[one]))
        process = Process(begin, gpu)
        self._users = living | {gpu: [*living[gpu], process]}
        return process

    def wait(self, hands: Sequence[Hand], seconds: float) -> list[tuple[Hand, Answer | Lost]]:
        known: dict[Any, Process] = {hand.connection: hand for hand in hands if isinstance(hand, Process)}
        heard: list[tuple[Hand, Answer | Lost]] = []
        for connection in wait(list(known), seconds):
            process = known[connection]
            try:
                heard.append((process, process.connection.recv()))
            except (EOFError, OSError):
                heard.append((process, Lost(process.how_it_ended())))
        return heard

    def close(self) -> None:
        """Nothing is held beside the processes."""


def idle_threads_sleep() -> dict[str, str]:
    """Environment of a worker whose idle threads are not in others' way, unless the user's says how threads wait."""
    return {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}


def gpus_here() -> tuple[str, ...]:
    """Devices that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(one for one in named.split(",") if one)
    return tuple(str(number) for number in range(sum(1 for _ in Path("/dev").glob("nvidia[0-9]*"))))


def serve(connection: Connection) -> None:
    """Work until dismissed, or until the other end has gone."""
    try:
        worker = Worker(connection.recv())
    except Exception as reason:
        connection.send(Failed.of(reason))
        return
    connection.send(Ready())
    tasks: deque[Task | str] = deque()

    def look() -> None:
        while connection.poll():
            tasks.append(connection.recv())
            if isinstance(tasks[-1], Task):
                worker.prepare(tasks[-1])

    def advanced(count: int) -> None:
        connection.send(Advanced(count))
        look()

    try:
        while True:
            if not tasks:
                tasks.append(connection.recv())
            look()
            task = tasks.popleft()
            if DISMISSED in (task, *tasks):
                return
            assert isinstance(task, Task)
            connection.send(worker.do(task, advanced))
    except (EOFError, OSError):
        return  # nobody is there any more
    finally:
        worker.close()


def _end_with(parent: int) -> None:
    """End this process when the one that started it is gone: what it has staged is nobody's."""
    while os.getppid() == parent:
        time.sleep(WATCH)
    os._exit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the job decides what it means
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    from sightline.job import processes  # the module by its name, so that what is pickled has one class

    processes.serve(Connection(int(sys.argv[1])))
