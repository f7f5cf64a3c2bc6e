"""Measure how fast a model runs here, and what to choose: sightline bench MODEL."""

from __future__ import annotations

import json as json_format
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from cyclopts import Group, Parameter

from sightline import registry
from sightline.bench.load import Batching
from sightline.bench.record import choice_text, markdown, to_json, write
from sightline.bench.result import Report
from sightline.bench.run import measure
from sightline.bench.scenarios import Load
from sightline.bench.stability import Rule
from sightline.bench.subject import Task, noise
from sightline.bench.sweep import Grid
from sightline.bench.variants import close, like, own_precision, variants
from sightline.commands._options import ModelOptions, parse_bytes
from sightline.errors import BadImage, OutputConflict, UsageError
from sightline.job.inputs import Loaded, inputs_from, load_photo
from sightline.registry import Method
from sightline.target import Target
from sightline.threads import check_threads
from sightline.types import Batch

if TYPE_CHECKING:
    from sightline.model import Model

PHOTOGRAPHS = 32  # that are read, at most
SWEEP, SERVER, TIME = Group("Sweep", sort_key=1), Group("Server", sort_key=2), Group("Time", sort_key=2)


@Parameter(name="*", group=SERVER)
@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """What a server is put under."""

    rate: Annotated[str | None, Parameter(help="Queries a second: latency there. Several: 10,20.")] = None
    bound: Annotated[
        float | None,
        Parameter(help="Milliseconds that 99 % keep: the highest such rate. 4 times one image unless given."),
    ] = None
    workers: Annotated[int, Parameter(help="Sessions that answer at the same time.")] = 1
    serve_batch: Annotated[int, Parameter(help="Queries that a worker may run together.")] = 1
    serve_wait: Annotated[float, Parameter(help="Milliseconds a query may wait for others to run with.")] = 0.0
    queries: Annotated[int, Parameter(help="Of one run; more where a long bound needs them.")] = 200

    def load(self, seed: int) -> Load:
        """As the scenario takes them."""
        return Load(
            queries=self.queries, bound=None if self.bound is None else self.bound / 1e3,
            batching=Batching(most=self.serve_batch, wait=self.serve_wait / 1e3), seed=seed,
        )  # fmt: skip


def bench(
    model: Annotated[str, Parameter(help="An .onnx file, demo, torchvision:NAME[@WEIGHTS] or timm:NAME.")],
    /,
    *,
    scenario: Annotated[
        str | None, Parameter(group=SWEEP, help="single-stream, multi-stream, server, offline; all unless given.")
    ] = None,
    method: Annotated[
        tuple[str, ...],
        Parameter(group=SWEEP, help="A method for the forward pass: 'occlusion(stride=16)'; one per flag."),
    ] = (),
    batch: Annotated[
        str | None, Parameter(group=SWEEP, help="Images per run of the network: 1,4,16. Offline tries 1 to 16.")
    ] = None,
    threads: Annotated[
        str | None, Parameter(group=SWEEP, help="Of one operator: 1,2. All physical cores unless given.")
    ] = None,
    device: Annotated[
        str, Parameter(group=SWEEP, help="cpu, cuda, tensorrt. A missing one is an error, never replaced.")
    ] = "cpu",
    precision: Annotated[
        str | None, Parameter(group=SWEEP, help="fp32, fp16, int8, or NAME=FILE.onnx. As the model is unless given.")
    ] = None,
    compare: Annotated[str | None, Parameter(help="Another model: both interleaved, with the ratio.")] = None,
    images: Annotated[
        tuple[str, ...],
        Parameter(help="Photographs to run on, one or several; noise unless given.", consume_multiple=True),
    ] = (),
    target: Annotated[str, Parameter(help="What methods explain: top, a class index, a label, a formula.")] = "top",
    out: Annotated[
        Path | None, Parameter(name=("--out", "-o"), help="Folder for bench.json, bench.md, bench.png.")
    ] = None,
    json: Annotated[bool, Parameter(help="Print one JSON object on stdout, nothing else.", negative="")] = False,
    memory: Annotated[str, Parameter(group=SWEEP, help="What the activations of one run may take.")] = "2GB",
    seconds: Annotated[float, Parameter(group=TIME, help="Of a window; three have to agree within 10 %.")] = 1.0,
    windows: Annotated[int, Parameter(group=TIME, help="After which nobody waits for agreement.")] = 10,
    seed: Annotated[int, Parameter(help="Of noise and arrivals.")] = 0,
    server: ServerOptions = ServerOptions(),
    model_options: ModelOptions = ModelOptions(),  # noqa: B008 - frozen
) -> int:
    """Measure how fast a model runs here, in the scenarios of MLPerf."""
    if seed < 0:
        raise UsageError(f"--seed {seed} must be at least 0.")
    grid = Grid(
        scenarios=_listed(scenario, str),
        devices=_listed(device, str),
        threads=_listed(threads, _threads) or (None,),
        batches=_listed(batch, _count("--batch")),
        memory=parse_bytes(memory),
        load=server.load(seed),
        rates=_listed(server.rate, _rate),
        workers=server.workers,
        rule=Rule(seconds=seconds, most=windows, warm_seconds=min(0.5, seconds / 2)),
    )
    methods = [None if one in ("forward", "predict") else registry.parse(one) for one in method or ("forward",)]
    wanted = _listed(precision, str)
    if compare is not None and len(wanted) > 1:
        raise UsageError("--compare takes two models: name one precision at most.")
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputConflict(f"{out} is there already and is not empty. Choose another -o.")
    with model_options.load(model) as network, tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        inputs = _inputs(network, images, seed)
        found, notes = variants(network, wanted, Path(folder), inputs)
        stack.callback(close, found, network)
        others: list[tuple[str, Model]] = []
        if compare is not None:
            other = like(network, compare)
            stack.callback(other.close)
            others = [(own_precision(other), other)]
        report = measure(
            _tasks(found, methods, target, inputs), grid, compared=_tasks(others, methods, target, inputs),
            notes=notes, say=_say,
        )  # fmt: skip
    _tell(report, out, json=json)
    return 0


def _tasks(
    models: Sequence[tuple[str, Model]], methods: Sequence[Method | None], target: str, inputs: Batch
) -> list[tuple[str, Task]]:
    return [
        (name, Task(model, method, Target.parse(target, model.labels), inputs))
        for name, model in models
        for method in methods
    ]


def _inputs(network: Model, images: tuple[str, ...], seed: int) -> Batch:
    """Photographs as the network takes them, or noise."""
    if not images:
        return noise(network, seed=seed)
    read, found = load_photo(network.photograph), list[Loaded]()
    for one in inputs_from(images).entries[:PHOTOGRAPHS]:
        try:
            found.append(read(one))
        except BadImage as reason:
            raise BadImage(f"{one.id}: {reason} Leave it out: what is timed must be what was asked for.") from reason
    return Batch(np.stack([one.tensor for one in found]), tuple(one.photo for one in found))


def _tell(report: Report, out: Path | None, *, json: bool) -> None:
    if out is not None:
        from sightline.report.bench_plot import write_plot

        write(report, out)
        write_plot(report, out / "bench.png")
    if json:
        print(json_format.dumps({"command": "bench", "out": None if out is None else str(out), **to_json(report)}))
    elif out is None:
        print(markdown(report), end="")
    else:
        for one in report.choices:
            print(choice_text(one) + ".")
        for one in report.comparisons:
            print(f"{one.subject}, {one.scenario}: {one.verdict}.")
        print(f"{out}: bench.json, bench.md, bench.png")


def _listed(text: str | None, read: Callable[[str], Any]) -> tuple[Any, ...]:
    """Parts separated by commas, each once."""
    parts = [part.strip() for part in (text or "").split(",")]
    return tuple(dict.fromkeys(read(part) for part in parts if part))


def _count(flag: str) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < 1:
            raise UsageError(f"{flag} {text!r} is no number of at least 1. Give one, or several: 1,2,4.")
        return int(text)

    return read


def _threads(text: str) -> int:
    count = _count("--threads")(text)
    check_threads(count, f"--threads {count}")
    return count


def _rate(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--rate {text!r} is no number of queries a second. Give one, or several: 10,20.") from None


def _say(text: str) -> None:
    print(text, file=sys.stderr)
