"""A job without a model: inputs, a loader and a method whose rows follow from the ids alone.

Run as a script it works slowly enough to be killed: fake_job.py OUT SECONDS.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sightline.errors import BadImage, UsageError
from sightline.job.crew import Engine
from sightline.job.inputs import Input, Inputs, Loaded
from sightline.job.manifest import JobHeader
from sightline.job.processes import Processes
from sightline.job.run import JobSummary, run_job
from sightline.job.work import Begin, Opened
from sightline.types import Batch, Heatmaps, Photo

HEADER = JobHeader(
    model="net.onnx",
    model_sha256="a1" * 32,
    method="Fake(strength=2.0)",
    target="top(1)",
    preprocess_sha256="b2" * 32,
    plan="ort on two threads",
    batch=3,
    shard_size=7,
)


def make_inputs(count: int, marked: dict[int, str] | None = None) -> Inputs:
    """Ids "0000.png" onwards; those in ``marked`` carry a word that load or explain reacts to."""
    names = [f"{row:04d}{(marked or {}).get(row, '')}.png" for row in range(count)]
    return Inputs(tuple(Input(name, Path("/photos") / name) for name in names))


def tensor_of(name: str) -> np.ndarray:
    """(3, 5, 7) random numbers that belong to the id."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).standard_normal((3, 5, 7), dtype=np.float32)


def load(one: Input) -> Loaded:
    if "bad" in one.id:
        raise BadImage(f"{one.id} is no image.")
    sha256 = hashlib.sha256(one.id.encode()).hexdigest()
    return Loaded(tensor_of(one.id), Photo(one.id, one.path, sha256))


def explain(batch: Batch) -> Heatmaps:
    """Twice the mean over channels; the score is the sum. Rows do not depend on each other."""
    values = (2 * batch.tensor.mean(axis=1)).astype(np.float32)  # (B, H, W)
    for row, photo in enumerate(batch.photos):
        if "nan" in photo.id:
            values[row, 2, 3] = np.nan
        if "huge" in photo.id:
            values[row, 0, 0] = 70_000  # float16 ends at 65,504
    scores = np.array([tensor.sum() for tensor in batch.tensor], np.float32)
    return Heatmaps(values, batch.photos, scores, tuple(int(photo.id[:4]) % 5 for photo in batch.photos))


def contents(out: Path) -> dict[str, bytes]:
    """Every shard file's bytes, and nothing of the manifest."""
    return {path.name: path.read_bytes() for path in sorted((out / "shards").iterdir())}


MARKED = {5: "bad", 6: "nan", 33: "bad", **dict.fromkeys(range(49, 56), "bad")}  # 49 to 55 are all of shard 7
COUNT = 96


@dataclass(frozen=True)
class FakeRecipe:
    """The same in a worker; some ids do harm there.

    "die" kills the process that explains it, "crash" the one that loads it, unless the recipe is ``mended``; "once"
    only the first that tries, which leaves a file in ``scratch``; "slow" takes its time; every input that is loaded
    leaves a line in ``scratch``.
    """

    scratch: str
    seconds: float = 0.0
    refuse: bool = False
    mended: bool = False

    @contextmanager
    def open(self) -> Iterator[Opened]:
        if self.refuse:
            raise UsageError("This recipe is refused.")
        yield Opened(self.load, self.explain)

    def load(self, one: Input) -> Loaded:
        with Path(self.scratch, "loaded.txt").open("a") as lines:
            lines.write(f"{one.id}\n")
        if "crash" in one.id and not self.mended:
            os.kill(os.getpid(), signal.SIGSEGV)
        return load(one)

    def explain(self, batch: Batch) -> Heatmaps:
        time.sleep(self.seconds * len(batch))
        for photo in batch.photos:
            if "die" in photo.id and not self.mended:
                os.kill(os.getpid(), signal.SIGKILL)
            if "once" in photo.id:
                try:
                    Path(self.scratch, photo.id).touch(exist_ok=False)
                except FileExistsError:
                    continue
                os.kill(os.getpid(), signal.SIGKILL)
        return explain(batch)


def with_workers(
    out: Path, inputs: Inputs, recipe: FakeRecipe, count: int = 2, on: str = "", **options: Any
) -> JobSummary:
    """The fake job by workers."""
    begin = Begin(recipe, HEADER, out.absolute(), "", 1)
    if on == "ray":
        from sightline.job.ray import RayEngine

        engine: Engine = RayEngine(begin, count)
    else:
        engine = Processes(begin, count)
    return run_job(out, HEADER, inputs, load, explain, engine=engine, **options)


def main(out: Path, seconds: float) -> None:
    def slow_load(one: Input) -> Loaded:
        time.sleep(seconds)
        return load(one)

    def slow_explain(batch: Batch) -> Heatmaps:
        time.sleep(2 * seconds)
        return explain(batch)

    import pyarrow.parquet  # noqa: F401 - before anybody counts seconds

    print("ready", flush=True)
    run_job(out, HEADER, make_inputs(COUNT, MARKED), slow_load, slow_explain, resume=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
