"""See how a job stands, check its files, or export its rows: sightline jobs show|verify|export OUT."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from cyclopts import App, Parameter
from numpy.typing import NDArray

from sightline.bank.bank import open_bank, part_folders
from sightline.commands._method_flags import command_summary
from sightline.commands._options import ModelOptions
from sightline.errors import BadImage, OutputConflict, UsageError
from sightline.image import read_image
from sightline.job.exporting import export_parquet, export_pictures, export_zarr
from sightline.job.inputs import Input, inputs_from
from sightline.job.manifest import MANIFEST
from sightline.job.reader import Job, open_job
from sightline.job.standing import Standing, standing
from sightline.model import Model
from sightline.report.overlays import write_overlays
from sightline.types import FloatArray, Heatmaps, Photo

SHOWN = 20  # reasons, or set-asides, that are printed; --json has all
Out = Annotated[Path, Parameter(help="Folder of the job: what was given as -o.")]
Json = Annotated[bool, Parameter(help="Print one JSON object on stdout, nothing else.", negative="")]

jobs = App(name="jobs", help=command_summary(__file__), help_format="plaintext", result_action="return_value")


@jobs.command
def show(out: Out, /, *, json: Json = False) -> int:
    """How far a job is, how fast, and what was set aside; also while it runs."""
    opened = _opened(out)
    found = standing(*opened)
    if json:
        aside = [asdict(one) for job in opened for one in job.set_aside]
        facts = {"command": "jobs show", "out": str(out), "finished": _finished(opened), "parts": len(opened)}
        facts |= {"done": found.done, **asdict(found), "header": asdict(opened[-1].header)}
        print(json_format.dumps(facts | {"inputs_set_aside": aside}))
        return 0
    print("\n".join(_lines(out, opened, found)))
    return 0


@jobs.command
def verify(out: Out, /, *, json: Json = False) -> int:
    """Read and hash every file, and see that every input has one row or was set aside once; else exit with 1."""
    opened = _opened(out)
    by_part = [job.verify() for job in opened]
    faults, found = [fault for part in by_part for fault in part], standing(*opened)
    if json:
        facts: dict[str, Any] = {"command": "jobs verify", "out": str(out), "sound": not faults, "faults": faults}
        facts |= {"shards": found.shards[0], "rows": found.rows, "finished": _finished(opened)}
        print(json_format.dumps(facts))
    elif faults:
        print("\n".join(faults))
        print("To mend it: delete the files named, and run the job again with --resume.")
        if any(by_part[:-1]):
            print("In a bank that mends the last part alone: for an earlier one, index all images into a new folder.")
    else:
        state = "finished" if _finished(opened) else "not finished"
        print(f"{out}: {found.shards[0]} shards, {found.rows} rows, {found.set_aside} set aside, {state}: all sound.")
    return 1 if faults else 0


@jobs.command
def export(
    out: Out,
    destination: Annotated[Path, Parameter(help="File or folder to write; new.")],
    /,
    *images: Annotated[str, Parameter(help="For png: where the photographs are now, if their paths have changed.")],
    to: Annotated[
        Literal["parquet", "zarr", "png"] | None, Parameter(help="By the destination's suffix unless given.")
    ] = None,
    model: Annotated[
        str | None, Parameter(help="For png: the network, so that maps lie on the photographs as it sees them.")
    ] = None,
    json: Json = False,
    model_options: ModelOptions = ModelOptions(),  # noqa: B008 - frozen
) -> int:
    """Write all rows into one Parquet file with a tensor column, a zarr group, or pictures."""
    kind = to or _kind(destination)
    opened = _opened(out)
    if kind == "png":
        count = _pictures(opened, destination, model, model_options, images)
    else:
        count = (export_parquet if kind == "parquet" else export_zarr)(opened, destination)
    unit = "pictures" if kind == "png" else "rows"
    facts = {"command": "jobs export", "out": str(out), "destination": str(destination), "to": kind, unit: count}
    print(json_format.dumps(facts | {"finished": _finished(opened)}) if json else f"{destination}: {count} {unit}.")
    return 0


def _kind(destination: Path) -> Literal["parquet", "zarr", "png"]:
    """What to write, by a name: pictures into a folder, whose name has no suffix."""
    match destination.suffix.lower():
        case ".parquet":
            return "parquet"
        case ".zarr":
            return "zarr"
        case "":
            return "png"
        case other:
            raise UsageError(
                f"{destination}: nothing is exported as {other!r}. Accepted: NAME.parquet, NAME.zarr, or a folder "
                "for pictures, whose name has no suffix; --to parquet, zarr or png says it for any other name."
            )


def _opened(out: Path) -> tuple[Job, ...]:
    """The job in a folder; of a bank, all its parts."""
    is_bank = not (out / MANIFEST).is_file() and part_folders(out)
    return open_bank(out).parts if is_bank else (open_job(out),)


def _finished(opened: tuple[Job, ...]) -> bool:
    return all(job.is_finished for job in opened)


def _lines(out: Path, opened: tuple[Job, ...], found: Standing) -> Iterator[str]:
    finished = _finished(opened)
    header = opened[-1].header
    state = "finished" if finished else f"being written by {found.writer}" if found.writer else "not finished"
    yield f"{out}: {header.kind}, {state}" + (f", {len(opened)} parts" if len(opened) > 1 else "")
    yield f"  model    {header.model} ({header.model_sha256[:12]})"
    yield f"  method   {header.method}" + (f" of {header.target}" if header.target else "")
    share = f" ({100 * found.done / found.inputs:.1f}%)" if found.inputs else ""
    yield f"  inputs   {found.done:,} of {found.inputs:,}{share}: {found.rows:,} rows, {found.set_aside:,} set aside"
    done, total = found.shards
    yield f"  shards   {done:,} of {total:,}, {header.shard_size} inputs each, batch {header.batch}"
    if found.smaller_batches:
        yield f"  memory   sufficed only for a smaller batch in {found.smaller_batches} shards"
    whole, last = found.rate
    if whole is not None and last is not None and found.seconds is not None:
        yield f"  rate     {whole:,.1f}/s over {_time(found.seconds)}; {last:,.1f}/s lately"
    if found.seconds_left and not finished:
        yield f"  left     {_time(found.seconds_left)} at that rate"
    for reason, count in found.reasons[:SHOWN]:
        yield f"  {count:>7,}  {reason}"
    if len(found.reasons) > SHOWN:
        yield f"           … and {len(found.reasons) - SHOWN} other reasons (--json has all)"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _pictures(
    opened: tuple[Job, ...], folder: Path, source: str | None, options: ModelOptions, images: tuple[str, ...]
) -> int:
    """Overlays of maps, where the network says how photographs were cropped; else the maps alone."""
    shapes = {len(shard.shape) for job in opened for shard in job.shards.values() if shard.rows}
    job = opened[0]
    if shapes != {3} or job.header.rows != "inputs":
        raise UsageError(
            f"{job.header.method} gives no maps (H, W), which pictures are drawn of. Export to parquet or zarr."
        )
    there = {one.id: one for one in inputs_from(images).entries} if images else {}
    if source is None:
        return export_pictures(opened, folder, lambda name, values, facts: _drawn(name, values, facts, None, there))
    with options.load(source) as network:
        if network.sha256 != job.header.model_sha256:
            raise OutputConflict(
                f"{source} ({network.sha256[:12]}) is not the model of {job.folder} ({job.header.model_sha256[:12]})."
            )
        return export_pictures(
            opened, folder, lambda name, values, facts: _drawn(name, values, facts, network, there)
        )


def _drawn(
    name: str, values: NDArray[Any], facts: dict[str, Any], network: Model | None, there: dict[str, Input]
) -> Iterator[tuple[str, bytes]]:
    """The figure of one map, as ``--overlays`` draws it."""
    import tempfile

    maps: FloatArray = np.asarray(values, np.float32)[None]
    photo = Photo(str(facts["id"]))
    if network is not None:
        photo = _seen(network, photo, facts, there)
    result = Heatmaps(
        maps, (photo,), np.array([facts.get("score") or 0.0], np.float32), (facts.get("target_class"),),
        signed=bool((maps < 0).any()),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        for number, path in enumerate(
            write_overlays(result, Path(scratch), labels=() if network is None else network.labels)
        ):
            yield f"{name}{f'.{number}' if number else ''}.png", path.read_bytes()


def _seen(network: Model, photo: Photo, facts: dict[str, Any], there: dict[str, Input]) -> Photo:
    """The photo with what the model saw of it; without, where it cannot be had any more."""
    one = there.get(photo.id)
    try:
        if one is None:
            path = str(facts["path"])
            if not path:
                return photo
            entries = inputs_from([path]).entries if Path(path).is_file() or "://" in path else []
            if len(entries) != 1:
                return photo
            one = entries[0]
        return network.photograph(read_image(one.read()), photo)[1]
    except BadImage:
        return photo
