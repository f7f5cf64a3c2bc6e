"""The fault matrix: every fault again and again, and what it cost. Prints a table, and rewrites a README's.

    python benchmarks/faults.py [--repeats 10] [--only WORDS] [--readme engine/sightline/job/README.md]

After each fault the job is resumed, and its rows are compared with those of a run that nobody disturbed: each id
once, the same values to the last bit (to 1e-5 where another batch was used), ``verify`` without a complaint. Needs
Linux, and root for the small disk. Only processes that this script started are killed.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import sightline as sl
from sightline.demo.dataset import write
from sightline.job.inputs import Inputs, inputs_from, load_photo
from sightline.job.manifest import JobHeader
from sightline.job.reader import open_job
from sightline.job.run import run_job
from sightline.types import Batch, Result

COUNT, SHARD, BATCH = 96, 8, 4
METHOD = sl.Occlusion(window=24, stride=12)
PRESET = "imagenet"  # its resize keeps proportions, which a thin image makes much of
FLAGS = {
    "preset": PRESET, "window": METHOD.window, "stride": METHOD.stride, "batch": BATCH, "shard": SHARD, "threads": 1,
}  # fmt: skip
BEGIN, END = "<!-- faults:begin -->", "<!-- faults:end -->"


class Bench:
    """A folder of pictures, the undisturbed run over it, and runs to disturb."""

    def __init__(self, root: Path, draw: random.Random):
        self.root, self.draw = root, draw
        self.pictures = root / "pictures"
        made = root / "made"
        write(made, 11, COUNT)
        self.pictures.mkdir()
        for path in sorted(one for one in made.rglob("*.png") if "mask" not in one.as_posix())[:COUNT]:
            shutil.copy(path, self.pictures / path.name)
        self.undisturbed = root / "undisturbed"
        self.ended(self.start(self.undisturbed))
        self.number = 0
        self.noted = ""

    def out(self) -> Path:
        self.number += 1
        return self.root / f"out{self.number}"

    def start(self, out: Path, *flags: str, images: Path | None = None) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "sightline", "run", "occlusion", "demo", str(images or self.pictures)]
        given = [word for name, value in FLAGS.items() for word in (f"--{name}", str(value))]
        with (self.root / "said.txt").open("wb") as said:
            return subprocess.Popen([*command, "-o", str(out), *given, "--resume", *flags], stdout=said, stderr=said)

    def ended(self, process: subprocess.Popen[bytes], code: int = 0) -> None:
        found = process.wait()
        said = (self.root / "said.txt").read_text(errors="replace").strip()[-1500:]
        assert found == code, f"exit code {found} instead of {code}: {said}"

    def finish(self, out: Path, *flags: str, images: Path | None = None, code: int = 0) -> None:
        self.ended(self.start(out, *flags, images=images), code)

    def wait_for_shards(self, out: Path, count: int, process: subprocess.Popen[bytes]) -> None:
        manifest = out / "manifest.jsonl"
        while process.poll() is None:
            if manifest.is_file() and manifest.read_bytes().count(b'"line": "shard"') >= count:
                return
            time.sleep(0.005)

    def same(self, out: Path, *, exact: bool = True, without: set[str] | frozenset[str] = frozenset()) -> None:
        job, reference = open_job(out), open_job(self.undisturbed)
        assert job.verify() == [], job.verify()
        assert job.is_finished
        ids, known = job.table().column("id").to_pylist(), reference.table().column("id").to_pylist()
        aside = {one.id for one in job.set_aside}
        assert len(set(ids)) == len(ids), "a row twice"
        assert not aside & set(ids), "a row and set aside"
        kept = [row for row, name in enumerate(known) if name not in without]
        assert ids == [known[row] for row in kept], "rows are missing, or others are there"
        values, expected = job.values(), reference.values()[kept]
        if exact:
            assert values.tobytes() == expected.tobytes(), "other numbers"
        else:
            np.testing.assert_allclose(values, expected, atol=1e-5 * float(np.abs(expected).max()))

    def in_process(
        self, out: Path, explain: Callable[[Callable[[Batch], Result]], Callable[[Batch], Result]], **options: Any
    ) -> None:
        with sl.load("demo", preset=PRESET) as model:
            plan = model.plan(METHOD, threads=1, batch=BATCH)
            header = JobHeader(
                model="shapes.onnx", model_sha256=model.sha256, method=repr(METHOD), target="top(1)",
                preprocess_sha256=model.preprocess.sha256, output=model.output, batch=BATCH, shard_size=SHARD,
            )  # fmt: skip
            inputs: Inputs = inputs_from([self.pictures])
            run_job(
                out, header, inputs, load_photo(model.photograph), explain(lambda batch: plan.run(batch, sl.top(1))),
                resume=True, labels=model.labels, **options,
            )  # fmt: skip


def descendants(process: int) -> list[int]:
    """Processes that a process started, and what these started."""
    parents = dict(_parents())
    found = [process]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one and child not in found]
    return found[1:]


def _parents() -> Iterator[tuple[int, int]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                yield int(folder.name), int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue


def _called(process: int, word: str) -> bool:
    try:
        return word in Path(f"/proc/{process}/cmdline").read_text(errors="replace")
    except OSError:
        return False


def main_process(bench: Bench) -> None:
    """SIGKILL of the main process, three times in one job"""
    out = bench.out()
    for _ in range(3):
        process = bench.start(out)
        bench.wait_for_shards(out, bench.draw.randint(0, COUNT // SHARD), process)
        time.sleep(bench.draw.uniform(0, 0.1))
        process.kill()
        process.wait()
    bench.finish(out)
    bench.same(out)


def main_of_workers(bench: Bench) -> None:
    """SIGKILL of the main process of two workers"""
    out = bench.out()
    process = bench.start(out, "--workers", "2")
    bench.wait_for_shards(out, bench.draw.randint(1, 8), process)
    process.kill()
    process.wait()
    bench.finish(out, "--workers", "2")
    bench.same(out)


def worker(bench: Bench) -> None:
    """SIGKILL of one of two workers"""
    out = bench.out()
    process = bench.start(out, "--workers", "2")
    bench.wait_for_shards(out, bench.draw.randint(1, 6), process)
    children = [one for one in descendants(process.pid) if _called(one, "sightline.job.processes")]
    os.kill(bench.draw.choice(children), signal.SIGKILL)
    bench.ended(process)
    bench.same(out)


def ray_actor(bench: Bench) -> None:
    """SIGKILL of one of two Ray actors"""
    out = bench.out()
    process = bench.start(out, "--workers", "2", "--on", "ray")
    bench.wait_for_shards(out, bench.draw.randint(1, 6), process)
    actors = [one for one in descendants(process.pid) if _called(one, "ray::_Actor")]
    assert actors, "no actor was found"
    os.kill(bench.draw.choice(actors), signal.SIGKILL)
    bench.ended(process)
    bench.same(out)


def ray_node(bench: Bench) -> None:
    """SIGKILL of Ray's own node process: the job says so, and goes on when it is called again"""
    out = bench.out()
    process = bench.start(out, "--workers", "2", "--on", "ray")
    bench.wait_for_shards(out, bench.draw.randint(1, 4), process)
    (node,) = [one for one in descendants(process.pid) if _called(one, "/raylet/raylet")]
    os.kill(node, signal.SIGKILL)
    assert process.wait(timeout=120) != 0, "it ends as if nothing had happened"
    bench.finish(out, "--workers", "2", "--on", "ray")
    bench.same(out)


def ray_driver(bench: Bench) -> None:
    """SIGKILL of the Ray driver"""
    out = bench.out()
    process = bench.start(out, "--workers", "2", "--on", "ray")
    bench.wait_for_shards(out, bench.draw.randint(1, 6), process)
    started = descendants(process.pid)
    process.kill()
    process.wait()
    bench.finish(out, "--workers", "2", "--on", "ray")
    bench.same(out)
    for one in started:  # what Ray itself has not ended by now
        if _called(one, "ray"):
            os.kill(one, signal.SIGKILL)


def full_disk(bench: Bench) -> None:
    """Disk full (a tmpfs of 0.3 to 1.5 MB), then room"""
    small = bench.root / "small"
    small.mkdir(exist_ok=True)
    size = bench.draw.randint(300, 1500)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(small)], check=True)
    try:
        flags = bench.draw.choice([(), ("--workers", "2")])
        bench.finish(small / "out", *flags, code=3)
        assert open_job(small / "out").verify() == []
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        bench.finish(small / "out", *flags)
        bench.same(small / "out")
    finally:
        subprocess.run(["umount", str(small)], check=True)


def truncated_shard(bench: Bench) -> None:
    """Shard of the output cut short"""
    out = bench.out()
    shutil.copytree(bench.undisturbed, out)
    path = bench.draw.choice(sorted((out / "shards").iterdir()))
    with path.open("r+b") as file:
        file.truncate(bench.draw.randrange(path.stat().st_size))
    assert any(path.name in fault for fault in open_job(out).verify()), "verify says nothing"
    bench.finish(out)
    bench.same(out)


def truncated_tar(bench: Bench) -> None:
    """Tar shard of the input cut short: what is whole has its row, the rest is told"""
    out, path = bench.out(), bench.root / "pictures.tar"
    names = sorted(one.name for one in bench.pictures.iterdir())
    ends: list[int] = []
    with tarfile.open(path, "w") as archive:
        for name in names:
            archive.add(bench.pictures / name, name)
            ends.append(archive.offset - (-(bench.pictures / name).stat().st_size % 512))
    size = bench.draw.randrange(ends[3], ends[-1])
    with path.open("r+b") as file:
        file.truncate(size)
    bench.finish(out, images=path, code=4)
    whole = [name for name, end in zip(names, ends, strict=True) if end <= size]
    job, reference = open_job(out), open_job(bench.undisturbed)
    assert job.table().column("id").to_pylist() == [f"pictures.tar/{name}" for name in whole]
    assert any("cut short" in one.reason for one in job.set_aside)
    np.testing.assert_allclose(job.values(), reference.values()[: len(whole)], atol=1e-4)


def flipped_bit(bench: Bench) -> None:
    """Flipped bit in a shard, found by verify and mended"""
    out = bench.out()
    shutil.copytree(bench.undisturbed, out)
    path = bench.draw.choice(sorted((out / "shards").iterdir()))
    content = bytearray(path.read_bytes())
    content[bench.draw.randrange(len(content))] ^= 1 << bench.draw.randrange(8)
    path.write_bytes(content)
    assert any(path.name in fault for fault in open_job(out).verify()), "verify says nothing"
    path.unlink()
    bench.finish(out)
    bench.same(out)


def bad_images(bench: Bench) -> None:
    """Corrupt, huge, zero-byte and malicious images among the others"""
    folder, out = bench.root / f"bad{bench.number}", bench.out()
    shutil.copytree(bench.pictures, folder)
    names = sorted(one.name for one in folder.iterdir())
    spoilt = bench.draw.sample(names, 8)
    corrupt, empty, bomb, huge, pipe, text, cut, thin = (folder / name for name in spoilt)
    content = bytearray(corrupt.read_bytes())
    content[40:] = bench.draw.randbytes(len(content) - 40)
    corrupt.write_bytes(content)
    empty.write_bytes(b"")
    stream = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(stream, "PNG")  # 400 million pixels in 50 KB
    bomb.write_bytes(stream.getvalue())
    with huge.open("wb") as file:
        file.truncate(3 << 30)
    pipe.unlink()
    os.mkfifo(pipe)
    text.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n/x (%pipe%id) (w) file\n")
    cut.write_bytes(cut.read_bytes()[:200])
    Image.new("1", (1, 80_000)).save(thin, "PNG")  # 968 million pixels once its shorter side is 110
    flags = bench.draw.choice([(), ("--workers", "2")])
    bench.finish(out, *flags, images=folder, code=4)
    assert {one.id for one in open_job(out).set_aside} == set(spoilt)
    bench.same(out, exact=False, without=set(spoilt))


def not_a_number(bench: Bench) -> None:
    """A model that returns NaN for some images"""
    out = bench.out()
    names = sorted(one.name for one in bench.pictures.iterdir())
    spoilt = set(bench.draw.sample(names, 5))

    def wrapped(explain: Callable[[Batch], Any]) -> Callable[[Batch], Any]:
        def nan(batch: Batch) -> Any:
            result = explain(batch)
            values = result.values.copy()
            for row, photo in enumerate(batch.photos):
                if photo.id in spoilt:
                    values[row, 5, 5] = np.nan
            return replace(result, values=values)

        return nan

    bench.in_process(out, wrapped)
    bench.same(out, without=spoilt)
    bench.in_process(out, lambda explain: explain, retry_failed=True)  # the model was mended
    bench.same(out, without=spoilt if len(open_job(out).set_aside) else set())
    assert not open_job(out).set_aside


def out_of_memory(bench: Bench) -> None:
    """Out of memory in a batch"""
    out, fatal = bench.out(), bench.draw.randrange(COUNT // BATCH)
    calls = 0

    def wrapped(explain: Callable[[Batch], Any]) -> Callable[[Batch], Any]:
        def little(batch: Batch) -> Any:
            nonlocal calls
            calls += 1
            if calls > fatal and len(batch) > 1:
                raise MemoryError("Unable to allocate 9.00 GiB")
            return explain(batch)

        return little

    bench.in_process(out, wrapped)
    bench.same(out, exact=False)
    assert any(shard.batch == 1 for shard in open_job(out).shards.values()), "the manifest does not say so"


def clock(bench: Bench) -> None:
    """Clock set back during the run"""
    out, real = bench.out(), time.time
    start = real()
    seen: list[float] = []
    time.time = lambda: start - 3600 * len(seen)  # type: ignore[assignment]
    try:
        bench.in_process(out, lambda explain: explain, progress=lambda progress: seen.append(progress.seconds))
    finally:
        time.time = real
    assert seen == sorted(seen), "progress went back"
    bench.same(out)


FAULTS = (
    main_process, main_of_workers, worker, ray_actor, ray_node, ray_driver, full_disk, truncated_shard, truncated_tar,
    flipped_bit, bad_images, not_a_number, out_of_memory, clock,
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--only", default="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readme", type=Path)
    given = parser.parse_args()
    lines = ["| fault | times | nothing lost, nothing twice, rows equal | seconds each |", "|---|---|---|---|"]
    failed = 0
    with tempfile.TemporaryDirectory() as root:
        bench = Bench(Path(root), random.Random(given.seed))
        for fault in FAULTS:
            if not any(word in fault.__name__ for word in given.only.split(",")):
                continue
            sound, start = 0, time.monotonic()
            for _ in range(given.repeats):
                try:
                    fault(bench)
                    sound += 1
                except Exception as reason:
                    print(f"{fault.__name__}: {type(reason).__name__}: {reason}", file=sys.stderr)
            failed += given.repeats - sound
            seconds = (time.monotonic() - start) / given.repeats
            lines.append(f"| {fault.__doc__} | {given.repeats} | {sound} of {given.repeats} | {seconds:.1f} |")
            print(lines[-1], flush=True)
    table = "\n".join(lines)
    if given.readme is not None:
        text = given.readme.read_text(encoding="utf-8")
        head, _, rest = text.partition(BEGIN)
        given.readme.write_text(f"{head}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
