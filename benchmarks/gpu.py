"""Check and time everything that runs on a GPU, within eight minutes and without a network.

python benchmarks/gpu.py                          all parts; rows are appended to benchmarks/results/<device>.csv
python benchmarks/gpu.py --parts knn,gram         some of them
python benchmarks/gpu.py --packages FOLDER        ONNX Runtime for CUDA lies there (pip install --target FOLDER …)
python benchmarks/gpu.py --dry-run                the same lines on the CPU, everything tiny, nothing recorded

It needs torch, torchvision, cupy-cuda13x, numba, onnx and onnx-ir, and no installation of sightline: the roots of the
checkout are put on the path. Captum and FAISS are compared with where they are. Every part is a process of its own:
one that fails, hangs or loses the device takes nothing with it but its own rest; what it found before is kept.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOTS = [str(HERE.parent / name) for name in ("engine", "kernels", "exporters")]
TOTAL = 465.0  # seconds in all
ATTEMPT = 15.0  # seconds below which no part is begun


@dataclass(frozen=True)
class Part:
    """One process.

    Attributes:
        module, function: what runs, with a ``Setting``.
        share: of the time, beside those of the others.
    """

    module: str
    function: str
    share: float


# In their order: what may have nothing to do, for want of a provider, leaves its time to those after it.
PARTS: Mapping[str, Part] = {
    "rate": Part("on_gpu.networks", "rate", 25),
    "small": Part("on_gpu.kernels", "small", 35),
    "knn": Part("on_gpu.kernels", "knn", 70),
    "gram": Part("on_gpu.kernels", "gram", 40),
    "occlusion": Part("on_gpu.networks", "occlusion", 100),
    "forward": Part("on_gpu.networks", "forward", 60),
    "styles": Part("on_gpu.networks", "styles", 35),
    "tensorrt": Part("on_gpu.networks", "tensorrt", 60),
    "gradients": Part("on_gpu.gradients", "gradients", 100),
    "ascent": Part("on_gpu.gradients", "ascent", 40),
    "scanline": Part("on_gpu.kernels", "scanline", 50),
}


def allowance(name: str, chosen: Sequence[str], left: float) -> float:
    """Seconds for a part, of those that are left for it and all after it.

    >>> allowance("tensorrt", ["rate", "tensorrt", "ascent"], 50.0), allowance("ascent", ["tensorrt", "ascent"], 7.0)
    (30.0, 7.0)
    """
    to_come = chosen[chosen.index(name) :]
    return left * PARTS[name].share / sum(PARTS[other].share for other in to_come)


@dataclass
class Found:
    """What a part said, and how it ended.

    Attributes:
        lines: its findings.
        seconds: that it took.
        ended: "" if it came to its end, else why not.
    """

    lines: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    ended: str = ""

    def of(self, *kinds: str) -> Iterator[dict[str, Any]]:
        """Findings of some kinds."""
        return (line for line in self.lines if line["kind"] in kinds)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 1 if a check failed or a part did not end, 2 if it was called wrongly."""
    given = parsed(arguments)
    if given.part is not None:
        return run_part(given)
    unknown = [name for name in given.parts.split(",") if name and name not in PARTS]
    if unknown:
        print(f"No part is named {unknown[0]!r}. Parts are: {', '.join(PARTS)}.", file=sys.stderr)
        return 2
    chosen = [name for name in PARTS if not given.parts or name in given.parts.split(",")]
    start, found = time.perf_counter(), dict[str, Found]()
    with tempfile.TemporaryDirectory(prefix="gpu") as folder:
        for name in chosen:
            left = given.seconds - (time.perf_counter() - start)
            if left < min(ATTEMPT, given.seconds / 4):
                found[name] = Found(ended=f"not begun: {left:.0f} s were left")
            else:
                found[name] = in_process(given, name, Path(folder), allowance(name, chosen, left))
            print(said(name, found[name]), flush=True)
            if not given.dry_run:
                record(given, found[name], name)
    return summary(found, time.perf_counter() - start)


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="", help=f"some of {','.join(PARTS)}")
    parser.add_argument("--packages", default="", help="folders that are searched before others, by colons")
    parser.add_argument("--seconds", type=float, default=TOTAL, help="in all (465)")
    parser.add_argument("--rounds", type=int, default=5, help="in each of which every subject runs once (5)")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the tables")
    parser.add_argument("--dry-run", action="store_true", help="tiny, on the CPU; nothing is recorded")
    for name in ("--part", "--folder", "--lines"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def in_process(given: argparse.Namespace, name: str, folder: Path, seconds: float) -> Found:
    """Run a part and read what it said."""
    lines, log = folder / f"{name}.jsonl", folder / f"{name}.log"
    lines.touch()
    command = [
        sys.executable, str(Path(__file__).resolve()), "--part", name, "--folder", str(folder), "--lines", str(lines),
        "--seconds", f"{seconds:.1f}", "--rounds", str(given.rounds),
    ]  # fmt: skip
    command += ["--dry-run"] if given.dry_run else []
    folders = [*filter(None, given.packages.split(":")), *ROOTS, os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": ":".join(filter(None, folders)), "PYTHONUNBUFFERED": "1"}
    if given.dry_run:  # what is tiny is over before a second thread has woken up
        environment |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    start, ended = time.perf_counter(), ""
    with log.open("wb") as output:
        try:
            done = subprocess.run(
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment, timeout=seconds + 10
            )
            ended = "" if done.returncode == 0 else f"ended with {done.returncode}: {tail(log)}"
        except subprocess.TimeoutExpired:
            ended = f"stopped after {seconds + 10:.0f} s"
    found = [json.loads(line) for line in lines.read_text().splitlines() if line.endswith("}")]
    return Found(found, time.perf_counter() - start, ended)


def run_part(given: argparse.Namespace) -> int:
    """What the process of a part does."""
    from on_gpu.setting import Setting

    setting = Setting(given.dry_run, Path(given.folder), Path(given.lines), given.seconds, given.rounds)
    if given.dry_run:
        from on_gpu import stand_ins

        stand_ins.install()
    part = PARTS[given.part]
    try:
        getattr(importlib.import_module(part.module), part.function)(setting)
    except Exception as reason:
        from on_gpu.setting import first_lines

        setting.emit("failed", name=given.part, note=f"{type(reason).__name__}: {first_lines(reason)}")
        traceback.print_exc()
    return 0


def record(given: argparse.Namespace, found: Found, name: str) -> None:
    """Append rows to the device's table; a failure to do so is told and loses no other part."""
    try:
        sys.path[:0] = [path for path in ROOTS if path not in sys.path]
        from on_gpu.rows import rows_of

        command = shlex.join(["benchmarks/gpu.py", "--parts", name, "--rounds", str(given.rounds)])
        rows_of(found.lines, name, command, given.results)
    except Exception as reason:
        print(f"  rows were not written: {type(reason).__name__}: {reason}", flush=True)
        traceback.print_exc()


def said(name: str, found: Found) -> str:
    """What a part found, for people."""
    lines = [f"{name}: {found.seconds:.0f} s{', ' + found.ended if found.ended else ''}"]
    for line in found.lines:
        if line["kind"] == "check":
            lines.append(f"  {'ok  ' if line['passed'] else 'FAIL'} {line['name']}  {line['note']}")
        elif line["kind"] in ("failed", "skipped", "note"):
            lines.append(f"  {line['kind']}: {line['name']}  {line['note']}")
        elif line["kind"] == "figure":
            lines.append(f"  {line['case']}: {line['metric']} {line['value']:.3f} {line['unit']}")
        else:
            lines += raced(line)
    return "\n".join(lines)


def raced(line: Mapping[str, Any]) -> list[str]:
    """Figures of a race, ours first, and its ratio to the best peer."""
    from statistics import median

    each = {name: median(times) for name, times in line["seconds"].items()}
    mine = each.pop("sightline")
    best = min(each, key=lambda name: each[name]) if each else None
    ratio = f"  {each[best] / mine:.2f}x of {best}" if best is not None else ""
    found = [f"  {line['case']}: {1 / mine:.4g} {line['unit']}{ratio}"]
    return found + [
        f"      {1 / seconds:10.4g}  {name}" for name, seconds in sorted(each.items(), key=lambda one: one[1])
    ]


def summary(found: Mapping[str, Found], seconds: float) -> int:
    """Print how it ended, and return what the process returns."""
    checks = [line for part in found.values() for line in part.of("check")]
    bad = [line["name"] for line in checks if not line["passed"]]
    failed = [line["name"] for part in found.values() for line in part.of("failed")]
    unended = [name for name, part in found.items() if part.ended]
    races = sum(1 for part in found.values() for _ in part.of("race"))
    print(f"\n{len(checks) - len(bad)} of {len(checks)} checks passed, {races} races, {seconds:.0f} s.")
    for title, names in (
        ("Checks that failed", bad),
        ("Timings that failed", failed),
        ("Parts that did not end", unended),
    ):
        if names:
            print(f"{title}: {'; '.join(names)}.")
    return 1 if bad or failed or unended else 0


def tail(log: Path) -> str:
    """The end of what a process printed."""
    return " ".join(log.read_text(errors="replace").split())[-400:]


if __name__ == "__main__":
    sys.exit(main())
