"""Who does the work of a job, how long and with how much: options that run and index share."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from sightline.commands._options import ComputeOptions, parse_bytes
from sightline.errors import UsageError
from sightline.file_names import stems
from sightline.routes.base import Device

if TYPE_CHECKING:
    from sightline.job.crew import Engine
    from sightline.job.limits import Limits
    from sightline.job.manifest import JobHeader
    from sightline.job.recipe import ModelRecipe

WORKERS = Group("Workers", sort_key=4)
FEW_WORKERS, PER_CORE = 16, 4  # at most so many processes, or so many for each core if that is more
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@Parameter(name="*", group=WORKERS)
@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """Who works, and when it stops."""

    workers: Annotated[
        int | None, Parameter(help="Processes that share the work and the cores; this one alone unless given.")
    ] = None
    on: Annotated[
        str | None, Parameter(help="ray: actors on this machine; ray:ADDRESS or ray:auto: on a cluster.")
    ] = None
    max_time: Annotated[
        str | None, Parameter(help="Stop cleanly before the shard that would end later: 90s, 30m, 8h.")
    ] = None
    max_memory: Annotated[
        str | None, Parameter(help="Stop cleanly after the shard in which all workers hold more: 12GB.")
    ] = None
    retry_failed: Annotated[bool, Parameter(help="Go on, and try again what was set aside.", negative="")] = False

    @property
    def count(self) -> int:
        """Workers."""
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers {self.workers} must be at least 1.")
        cores = os.cpu_count() or 1
        most = max(FEW_WORKERS, PER_CORE * cores)
        if (self.workers or 1) > most and not self.on_cluster:
            raise UsageError(
                f"--workers {self.workers} is more than {most}, which this machine of {cores} cores can use: each is "
                "a process with a network of its own. One per core or GPU is usual; --on ray:ADDRESS has others work."
            )
        return self.workers or 1

    @property
    def elsewhere(self) -> bool:
        """Whether the work is done by other processes."""
        return self.on is not None or self.workers is not None

    @property
    def on_cluster(self) -> bool:
        """Whether workers may be on other machines."""
        return self.on is not None and bool(self.on.partition(":")[2])

    def plan_options(self, compute: ComputeOptions) -> dict[str, Any]:
        """As ``Model.plan`` takes them; a worker's threads are its share of the cores unless a number was given."""
        options = compute.plan_options()
        if options["threads"] is None and self.elsewhere:
            options["threads"] = max(1, len(os.sched_getaffinity(0)) // self.count)
        return options

    def limits(self) -> Limits:
        """Where the run stops by itself."""
        from sightline.job.limits import Limits

        memory = None if self.max_memory is None else parse_bytes(self.max_memory, "--max-memory")
        return Limits(parse_seconds(self.max_time, "--max-time"), memory)

    def engine(self, recipe: ModelRecipe, header: JobHeader, out: Path, device: Device) -> Engine | None:
        """Starts workers; None where this process does the work itself."""
        if not self.elsewhere:
            return None
        from sightline.job.work import Begin

        begin = Begin(recipe, header, out.absolute(), "", recipe.settings.threads or 1)
        if self.on is None:
            from sightline.job.processes import Processes, gpus_here

            return Processes(begin, self.count, () if device == "cpu" else gpus_here())
        kind, _, address = self.on.partition(":")
        if kind != "ray":
            raise UsageError(f"--on {self.on!r} is not known. Accepted: ray, ray:auto, ray:ADDRESS.")
        from sightline.job.ray import RayEngine

        return RayEngine(begin, self.count, address, gpus=0 if device == "cpu" else 1)


class FileNames(Mapping[str, str]):
    """File names by input id, made when the first is asked for: a million of them take their room."""

    def __init__(self, ids: Sequence[str]):
        self._ids = ids
        self._names: Mapping[str, str] | None = None

    @property
    def _made(self) -> Mapping[str, str]:
        if self._names is None:
            self._names = stems(self._ids)
        return self._names

    def __getitem__(self, name: str) -> str:
        return self._made[name]

    def __iter__(self):
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)

    def of(self, ids: Sequence[str]) -> Mapping[str, str]:
        """Those of some inputs."""
        return {one: self._made[one] for one in ids}


def say_untried(count: int) -> None:
    """Tell of inputs that one process alone does not try again."""
    if count:
        print(
            f"{count} inputs that killed a worker were not tried again, since they may kill this process: "
            "--retry-failed --workers 1 tries them.",
            file=sys.stderr,
        )


def parse_seconds(text: str | None, flag: str) -> float | None:
    """Seconds from "90s", "30m", "8h", "2d" or a plain number.

    Raises:
        UsageError: anything else.
    """
    if text is None:
        return None
    number = text.strip().lower()
    factor = _UNITS.get(number[-1:], 1)
    try:
        seconds = float(number.rstrip("smhd")) * factor
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"{flag} {text!r} is no time. Give 90s, 30m, 8h or a number of seconds.")
    return seconds
