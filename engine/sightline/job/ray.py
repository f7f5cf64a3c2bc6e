"""Workers that are actors of a Ray cluster. The only file that knows Ray; the worker is everybody's."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sightline.errors import MissingExtra, SightlineError, UsageError
from sightline.job.crew import Hand, Lost
from sightline.job.processes import idle_threads_sleep
from sightline.job.work import Answer, Begin, Failed, Ready, Task, Worker

LOOK = 5.0  # seconds between two looks at the cluster's nodes, while nothing is heard


class RayUnreachable(SightlineError):
    """There is no Ray cluster at the address, or it cannot hold a worker."""


class _Actor:
    """The worker, as Ray holds it."""

    def __init__(self) -> None:
        self._worker: Worker | None = None

    def open(self, begin: Begin) -> Answer:
        """Open the model."""
        try:
            self._worker = Worker(begin)
        except Exception as reason:
            return Failed.of(reason)
        return Ready()

    def do(self, task: Task) -> Answer:
        """Make a shard."""
        assert self._worker is not None
        return self._worker.do(task, lambda _: None)

    def pid(self) -> int:
        """Of its process."""
        return os.getpid()


class Actor:
    """An actor, seen from the job."""

    def __init__(self, ray: Any, kind: Any, begin: Begin):
        self._ray, self._actor = ray, kind.remote()
        self.answers: deque[Any] = deque([self._actor.open.remote(begin)])

    def give(self, task: Task) -> None:
        self.answers.append(self._actor.do.remote(task))

    def dismiss(self) -> None:
        while len(self.answers) > 1:
            self._ray.cancel(self.answers.pop())

    def kill(self) -> None:
        self._ray.kill(self._actor, no_restart=True)

    @property
    def held(self) -> int:
        return 0  # it may be on another machine, whose memory Ray watches

    def pid(self) -> int:
        """Of its process, for whoever wants to see it."""
        return int(self._ray.get(self._actor.pid.remote()))


class RayEngine:
    """Starts actors, each with some cores, and a GPU where the job runs on one.

    An actor is never restarted by Ray, nor a task tried again by it: the job does both, within its own bounds, since
    it alone knows which inputs a dead worker had. The driver holds the output folder, so it may die and be started
    again: finished shards are dropped before anything is read.

    Args:
        begin: what an actor is told; its rows come back through Ray's object store.
        count: actors.
        address: of the cluster; "" is one on this machine for as long as the job runs, "auto" the one that runs here.
        gpus: of each actor.

    Raises:
        MissingExtra: Ray is not installed.
        RayUnreachable: no cluster answers, or no machine of it can hold an actor.
    """

    def __init__(self, begin: Begin, count: int, address: str = "", gpus: int = 0):
        if count < 1:
            raise UsageError(f"--workers {count} must be at least 1.")
        try:
            import ray  # pyright: ignore[reportMissingImports]
        except ImportError as reason:
            raise MissingExtra("--on ray needs Ray: pip install 'sightline[ray]'.") from reason
        self._ray: Any = ray
        self.count = count
        self._begin = replace(begin, folder=None)
        self._looked = time.monotonic()
        self._started = not ray.is_initialized()
        if self._started:
            self._connect(address, count * begin.cores)
        try:
            self._check_room(begin.cores, gpus)
        except RayUnreachable:
            self.close()
            raise
        options: dict[str, Any] = {
            "num_cpus": begin.cores, "num_gpus": gpus, "max_restarts": 0, "max_task_retries": 0,
            "runtime_env": {"env_vars": idle_threads_sleep()},
        }  # fmt: skip
        self._kind: Any = ray.remote(**options)(_Actor)

    def _connect(self, address: str, cores: int) -> None:
        path = os.pathsep.join(one or os.getcwd() for one in sys.path)  # noqa: PTH109
        quiet: dict[str, Any] = {"log_to_driver": True, "logging_level": "warning"}
        here: dict[str, Any] = {
            "num_cpus": cores, "include_dashboard": False, "runtime_env": {"env_vars": {"PYTHONPATH": path}},
            "_system_config": {"worker_niceness": 0},  # with Ray's 15 whatever else runs starves the actors
        }  # fmt: skip
        try:
            self._ray.init(**quiet, **({"address": address} if address else here))
        except Exception as reason:  # it raises ConnectionError, RuntimeError, ValueError …
            raise RayUnreachable(f"No Ray cluster answers at {address or 'this machine'}: {reason}") from reason

    def _check_room(self, cores: int, gpus: int) -> None:
        """Refuse actors that Ray would wait for without an end, and without a word."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        rooms = [(node.get("CPU", 0), node.get("GPU", 0)) for node in nodes]
        if not any(cpus >= cores and there >= gpus for cpus, there in rooms):
            there = "; ".join(f"{cpu:g} cores and {gpu:g} GPUs" for cpu, gpu in sorted(set(rooms), reverse=True))
            raise RayUnreachable(
                f"An actor takes {cores} cores and {gpus} GPUs, and no machine of the Ray cluster has as many: there "
                f"is one of {there or 'none'}. Give fewer cores with --threads, or --device cpu."
            )

    def start(self) -> Actor:
        return Actor(self._ray, self._kind, replace(self._begin, token=secrets.token_hex(4)))

    def wait(self, hands: Sequence[Hand], seconds: float) -> list[tuple[Hand, Answer | Lost]]:
        known = {hand.answers[0]: hand for hand in hands if isinstance(hand, Actor) and hand.answers}
        if not known:
            return []
        ready, _ = self._ray.wait(list(known), num_returns=1, timeout=seconds)
        if not ready:
            self._look_for_nodes()
        heard: list[tuple[Hand, Answer | Lost]] = []
        for answer in ready:
            actor = known[answer]
            actor.answers.popleft()
            try:
                heard.append((actor, self._ray.get(answer)))
            except self._ray.exceptions.RayError as reason:
                heard.append((actor, Lost(told(reason))))
        return heard

    def _look_for_nodes(self) -> None:
        """Now and then see whether there is a machine left: without one, Ray would wait for ever.

        Raises:
            RayUnreachable: there is none.
        """
        if time.monotonic() - self._looked < LOOK:
            return
        self._looked = time.monotonic()
        if not any(node["Alive"] for node in self._ray.nodes()):
            raise RayUnreachable(
                "Every node of the Ray cluster is gone. What was committed is safe: start the cluster again, and go "
                "on with --resume."
            )

    def close(self) -> None:
        if self._started:
            self._ray.shutdown()


def told(reason: Exception) -> str:
    """Ray's words in one line, without what it indents: ids of the actor, and code."""
    lines = [line.strip() for line in str(reason).splitlines() if not line[:1].isspace()]
    return f"{type(reason).__name__}: {' '.join(lines)}".rstrip(" .:")
