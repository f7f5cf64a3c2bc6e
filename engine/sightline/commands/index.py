"""Extract features of images into a bank: sightline index MODEL IMAGES… -o BANK."""

from __future__ import annotations

import json as json_format
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from sightline.bank.bank import open_bank, part_folders
from sightline.bank.files import bank_from_file, is_vectors
from sightline.bank.source import Source
from sightline.bank.space import written
from sightline.bank.writing import index_images, shard_size
from sightline.commands._options import ComputeOptions, ModelOptions, parse_size
from sightline.commands._progress import ProgressLine
from sightline.commands._workers import WorkerOptions, say_untried
from sightline.dispatch import Plan
from sightline.errors import UsageError
from sightline.job.crew import Engine
from sightline.job.inputs import Inputs, inputs_from, load_photo
from sightline.job.manifest import JobHeader, stored_header
from sightline.job.recipe import Explainer, ModelRecipe
from sightline.job.run import JobSummary
from sightline.methods.forward.features import Descriptors, Features, Pool
from sightline.model import Model

PIXELS = 32  # side of thumbnails unless said


def index(
    model: Annotated[str, Parameter(help="A network; or vectors without images: FILE.npy or FILE.parquet:COLUMN.")],
    /,
    *images: Annotated[str, Parameter(help="Image files, folders or patterns.")],
    out: Annotated[Path, Parameter(name=("--out", "-o"), help="Folder of the bank.")],
    layer: Annotated[
        tuple[str, ...], Parameter(help="Layers, repeated or separated by commas; the last with maps unless given.")
    ] = (),
    pool: Annotated[Pool, Parameter(help="What becomes of a layer's positions; none keeps each.")] = "avg",
    space: Annotated[Literal["feature", "pixel", "both"], Parameter(help="Layers, thumbnails or both.")] = "feature",
    pixels: Annotated[int | None, Parameter(help=f"Side of the thumbnails; --size, or {PIXELS}.")] = None,
    dtype: Annotated[Literal["float32", "float16"], Parameter(help="Of the stored features.")] = "float32",
    append: Annotated[bool, Parameter(help="Add images to the bank that is in OUT.", negative="")] = False,
    resume: Annotated[bool, Parameter(help="Go on with the bank that is in OUT.", negative="")] = False,
    limit: Annotated[int | None, Parameter(help="At most so many images.")] = None,
    json: Annotated[bool, Parameter(help="Print one JSON object on stdout, nothing else.", negative="")] = False,
    model_options: ModelOptions = ModelOptions(),  # noqa: B008 - frozen
    compute: ComputeOptions = ComputeOptions(),  # noqa: B008
    workers: WorkerOptions = WorkerOptions(),  # noqa: B008
) -> int:
    """Extract features of images into a bank."""
    if is_vectors(model):
        if images:
            raise UsageError(f"{model} holds vectors already; leave the images out.")
        bank_from_file(out, model)
        _tell(out, None, json=json)
        return 0
    if not images:
        raise UsageError("Name the images: files, folders or patterns.")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit} must be at least 1.")
    names = tuple(name for one in layer for name in one.split(",") if name)
    side = _thumbnail_side(space, pixels, model_options.size)
    method = Features(layers=names, pool=pool, pixels=side, only_pixels=space == "pixel")
    with model_options.load(model) as network:
        found = inputs_from(images)
        inputs = Inputs(found.entries[:limit])
        resume = resume or workers.retry_failed
        plan = _settled(network.plan(method, **workers.plan_options(compute)), out, len(inputs), resume=resume)
        header = _header(network, method, plan, dtype)

        def engine(part: Path) -> Engine | None:
            recipe = ModelRecipe.of(network, method, plan, None, None)
            return workers.engine(recipe, header, part, plan.settings.device)

        with ProgressLine("index") as progress:
            summary = index_images(
                out, header, inputs, load_photo(network.photograph), Explainer(network, plan, None),
                source=Source.of(model, network, method), resume=resume, append=append, progress=progress,
                retry_failed=workers.retry_failed, limits=workers.limits(),
                engine=engine if workers.elsewhere else None,
            )  # fmt: skip
    say_untried(summary.untried)
    _tell(out, summary, json=json)
    if summary.stopped:
        return 130
    return 4 if summary.set_aside else 0


def _thumbnail_side(space: str, pixels: int | None, size: str | None) -> int:
    """0 where there are none; of thumbnails alone, --size says their side, since the network is not run."""
    if space == "feature":
        return pixels or 0
    given = parse_size(size, "--size") if space == "pixel" else None
    return pixels if pixels is not None else given[0] if given is not None else PIXELS


def _settled(plan: Plan, out: Path, images: int, *, resume: bool) -> Plan:
    """With the batch of the part that goes on, so that its rows are the same to the last bit; else a measured one."""
    parts = part_folders(out) if resume else []
    there = stored_header(parts[-1]) if parts else None
    if there is None or plan.settings.batch is not None:
        return plan.measured(images)
    return replace(plan, settings=replace(plan.settings, batch=there.batch))


def _header(model: Model, method: Features, plan: Plan, dtype: Literal["float32", "float16"]) -> JobHeader:
    empty = plan.run()  # on no images: a wrong layer is told before OUT is made
    assert isinstance(empty, Descriptors)
    return JobHeader(
        kind="index", model=model.path.name, model_sha256=model.sha256, method=repr(method), target="",
        preprocess_sha256=model.preprocess.sha256, plan=str(plan), dtype=dtype, batch=plan.settings.batch or 1,
        shard_size=shard_size(empty.values.shape[1], dtype), layout=written(empty.spaces),
    )  # fmt: skip


def _tell(out: Path, summary: JobSummary | None, *, json: bool) -> None:
    bank = open_bank(out)
    facts: dict[str, Any] = {
        "command": "index", "out": str(out), "images": len(bank), "duplicates": bank.duplicates,
        "spaces": [{**vars(one), "rows": one.positions * len(bank)} for one in bank.spaces],
        "dtype": bank.header.dtype,
        "set_aside": [{"id": one.id, "path": one.path, "reason": one.reason} for one in bank.set_aside],
    }  # fmt: skip
    if summary is not None:
        facts |= {"done": summary.done, "seconds": summary.seconds, "finished": not summary.stopped}
    if json:
        print(json_format.dumps(facts, ensure_ascii=False))
        return
    took = "" if summary is None else f", {summary.done} of them in {summary.seconds:.1f} s"
    print(f"{out}: {len(bank)} images{took}; {len(bank.duplicates)} inputs have the content of another.")
    for one in bank.spaces:
        print(f"  {one}: {one.positions * len(bank):,} rows")
    for one in bank.set_aside:
        print(f"Set aside: {one.id}: {one.reason}", file=sys.stderr)
