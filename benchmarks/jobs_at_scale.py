"""A long job over tar shards: is its memory flat, and does it run as fast as the method alone?

    python benchmarks/jobs_at_scale.py --images 50000 [--methods saliency,occlusion] [--threads 2] [--json FILE]

The demo's scenes are drawn and packed into tar shards; then the command runs over them as a user would call it, while
the memory of its process is looked at. The rate of the job is that of its manifest (from the first shard to the last,
start-up left out); the bare method's is that of ``plan.run`` on batches that are decoded already, in a process of its
own with the same batch and threads, measured before the job and after it, since a machine's pace changes.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sightline.demo.dataset import draw
from sightline.job.memory import resident
from sightline.job.reader import open_job

PER_SHARD = 2_000  # images of one archive
WARM = 0.05  # share of the job after which memory should be flat
FIELDS = {"occlusion": {"window": 16, "stride": 8}, "saliency": {}}
BARE = """
import sys, time
import sightline as sl
from sightline import registry
method, folder, count, batch, threads, fields = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]), eval(sys.argv[6])
from sightline.job.inputs import inputs_from, load_photo
from sightline.job.making import stacked
with sl.load("demo") as model:
    plan = model.plan(registry.find(method).load()(**fields), threads=threads, batch=batch)
    load = load_photo(model.photograph)
    entries = inputs_from([folder]).entries[:count]
    loaded = [(row, one, load(one)) for row, one in enumerate(entries)]
    batches = [stacked(loaded[at : at + batch]) for at in range(0, count, batch)]
    plan.run(batches[0], sl.top(1))
    start = time.perf_counter()
    for one in batches:
        plan.run(one, sl.top(1))
    print(count / (time.perf_counter() - start))
"""


def pack(folder: Path, count: int, seed: int) -> None:
    """Tar shards of drawn scenes."""
    for first in range(0, count, PER_SHARD):
        with tarfile.open(folder / f"scenes-{first // PER_SHARD:05d}.tar", "w") as archive:
            for index in range(first, min(first + PER_SHARD, count)):
                stream = io.BytesIO()
                Image.fromarray(draw(seed, index).image).save(stream, "PNG", compress_level=1)
                info = tarfile.TarInfo(f"{index:07d}.png")
                info.size = stream.tell()
                archive.addfile(info, io.BytesIO(stream.getvalue()))


def bare(method: str, folder: Path, count: int, batch: int, threads: int) -> float:
    """Images per second of the method alone."""
    fields = repr(FIELDS[method])
    words = [method, str(folder), str(count), str(batch), str(threads), fields]
    done = subprocess.run([sys.executable, "-c", BARE, *words], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def job(method: str, folder: Path, out: Path, count: int, batch: int, given: argparse.Namespace) -> dict[str, Any]:
    """Run the command, and look at its memory."""
    flags = [word for name, value in FIELDS[method].items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "sightline", "run", method, "demo", str(folder), "-o", str(out), *flags]
    command += ["--batch", str(batch), "--threads", str(given.threads), "--dtype", "float16"]
    if given.workers:
        command += ["--workers", str(given.workers)]
    manifest, seen = out / "manifest.jsonl", list[tuple[float, int]]()
    start, lines, at = time.monotonic(), 0, 0
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if manifest.is_file():
                with manifest.open("rb") as file:
                    file.seek(at)
                    text = file.read()
                    at, lines = at + len(text), lines + text.count(b'"line": "shard"')
            seen.append((min(1.0, lines * 128 / count), resident(process.pid)))
            time.sleep(0.1)
    assert process.returncode == 0, f"exit code {process.returncode}"
    wall = time.monotonic() - start
    found = open_job(out)
    assert found.is_finished
    assert len(found) == count
    shards = [(shard.rows, shard.seconds or 0.0) for shard in found.shards.values()]
    rows, seconds = (sum(column) for column in zip(*shards[1:], strict=True))
    return {"wall": wall, "rate": rows / seconds, **flatness(seen[:-3])}


def flatness(seen: list[tuple[float, int]]) -> dict[str, float]:
    """How memory behaved from the 5th percent on: MiB in the middle, the extremes against it, and the trend."""
    share, held = (np.array(column, np.float64) for column in zip(*seen, strict=True))
    steady = (share >= WARM) & (held > 0)
    held, share = held[steady] / 2**20, share[steady]
    middle = float(np.median(held))
    slope = float(np.polyfit(share, held, 1)[0]) if len(np.unique(share)) > 1 else 0.0
    return {
        "mebibytes": middle, "lowest": float(held.min()) / middle - 1, "highest": float(held.max()) / middle - 1,
        "slope": slope,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--methods", default="saliency,occlusion")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--bare", type=int, default=512, help="images of each measurement of the bare method")
    parser.add_argument("--folder", type=Path, help="where shards and results go; a temporary folder unless given")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = given.folder or Path(scratch)
        shards = root / f"shards-{given.images}"
        if not shards.is_dir():
            shards.mkdir(parents=True)
            start = time.monotonic()
            pack(shards, given.images, 77)
            print(f"{given.images} scenes drawn and packed in {time.monotonic() - start:.0f} s", file=sys.stderr)
        print(
            "| method | images | job, images/s | bare method | ratio | memory, MiB | lowest, highest | slope, MiB |"
        )
        print("|---|---|---|---|---|---|---|---|")
        records: list[dict[str, Any]] = []
        for method in given.methods.split(","):
            count = min(given.bare, given.images)
            before = bare(method, shards, count, given.batch, given.threads)
            found = job(method, shards, root / f"out-{method}-{time.time_ns()}", given.images, given.batch, given)
            after = bare(method, shards, count, given.batch, given.threads)
            alone = (before + after) / 2
            records.append({"method": method, "images": given.images, "bare": [before, after], **found})
            print(
                f"| {method} | {given.images:,} | {found['rate']:.1f} | {before:.1f}, {after:.1f} | "
                f"{found['rate'] / alone:.2f} | {found['mebibytes']:.0f} | {found['lowest']:+.1%}, "
                f"{found['highest']:+.1%} | {found['slope']:+.1f} |",
                flush=True,
            )
        if given.json is not None:
            given.json.write_text(json.dumps(records, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
