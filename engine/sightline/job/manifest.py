"""The manifest: what an output folder holds. Readers trust nothing else.

``manifest.jsonl`` is append-only. Its first line is the job; then come, for each shard, one line per input that was
set aside and the line that commits the shard. Whatever follows the last shard line is not committed.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from sightline.errors import DamagedOutput, OutputConflict, UsageError
from sightline.job.shard import FileRecord, Shard

MANIFEST = "manifest.jsonl"
FORMAT = 1
DTYPES = ("float16", "float32")


@dataclass(frozen=True, kw_only=True)
class JobHeader:
    """What makes the rows of a job what they are.

    Attributes:
        kind: which command wrote it: "run", "index", …
        model: file name, for people.
        model_sha256: of the model.
        method: repr of the method.
        target: the target's formula, "" where the method has none.
        output: the model's output that holds the scores.
        preprocess_sha256: of the preprocessing's parameters, "" where there is none.
        plan: the plan, printed.
        dtype: what floating-point values are stored as; integers are stored as they come.
        batch: images that the method sees at once.
        shard_size: inputs per shard.
        rows: one per input, or whatever the method finds in the model alone.
        files_sha256: of the sizes of the input files, in order.
        labels_sha256: of the class names that the tables carry, "" where there are none.
        layout: how a row of a bank divides into spaces, "" elsewhere.
        finite: set a row with NaN or infinity aside instead of storing it.
    """

    kind: str = "run"
    model: str
    model_sha256: str
    method: str
    target: str
    preprocess_sha256: str
    output: str = ""
    plan: str = ""
    dtype: Literal["float16", "float32"] = "float32"
    batch: int = 16
    shard_size: int = 128
    rows: Literal["inputs", "model"] = "inputs"
    files_sha256: str = ""
    labels_sha256: str = ""
    layout: str = ""
    finite: bool = True

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UsageError(f"dtype {self.dtype!r} cannot be stored. Accepted: {', '.join(DTYPES)}.")
        for name in ("batch", "shard_size"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)} must be at least 1.")

    def check_same(self, other: JobHeader, out: Path, inputs: tuple[str, str]) -> None:
        """Refuse to go on with ``other`` in the folder of this job.

        Args:
            other: what is asked for now.
            out: the folder.
            inputs: this job's inputs and those of the other, described.

        Raises:
            OutputConflict: with every field that differs. The plan and the batch may: they do not change the rows
                beyond a route's tolerance.
        """
        named = {
            "kind": (self.kind, other.kind),
            "model": (_model(self), _model(other)),
            "method": (self.method, other.method),
            "output": (self.output, other.output),
            "target": (self.target, other.target),
            "preprocessing": (self.preprocess_sha256[:12], other.preprocess_sha256[:12]),
            "input files": (self.files_sha256[:12], other.files_sha256[:12]),
            "labels": (self.labels_sha256[:12], other.labels_sha256[:12]),
            "dtype": (self.dtype, other.dtype),
            "shard_size": (self.shard_size, other.shard_size),
            "rows": (self.rows, other.rows),
            "layout": (self.layout, other.layout),
            "finite": (str(self.finite), str(other.finite)),
            "inputs": inputs,
        }
        identical = self.model_sha256 == other.model_sha256
        differing = [
            f"  {name}: there {there or 'none'}, asked for {asked or 'none'}"
            for name, (there, asked) in named.items()
            if there != asked and not (name == "model" and identical)
        ]
        if differing:
            raise OutputConflict(
                "\n".join([f"{out} holds another job:", *differing])
                + "\nChoose another output folder (-o), or the options and inputs that it was made with."
            )


def _model(header: JobHeader) -> str:
    return f"{header.model} ({header.model_sha256[:12]})"


@dataclass(frozen=True)
class SetAside:
    """An input that has no row, and why.

    Attributes:
        position: in the list of inputs.
        shard: where its row would be.
    """

    id: str
    path: str
    reason: str
    position: int
    shard: int


@dataclass(frozen=True)
class Manifest:
    """What a job's folder holds.

    Attributes:
        header: of the job.
        version: of sightline, when the job began.
        inputs: how many there are.
        inputs_sha256: digest of their ids in order.
        shards: those committed, by index, in order.
        set_aside: of those shards, in the order of the inputs.
        size: bytes of the file up to the last line that counts.
        retried: whether set-asides were tried again, so that input files may have changed since a shard was made.
    """

    header: JobHeader
    version: str
    inputs: int
    inputs_sha256: str
    shards: Mapping[int, Shard]
    set_aside: tuple[SetAside, ...]
    size: int
    retried: bool = False

    @property
    def shard_count(self) -> int:
        """Shards of the finished job."""
        return 1 if self.header.rows == "model" else -(-self.inputs // self.header.shard_size)

    def positions(self, index: int) -> range:
        """The inputs of a shard."""
        start = index * self.header.shard_size
        return range(start, min(start + self.header.shard_size, self.inputs))


def header_line(header: JobHeader, inputs: int, inputs_sha256: str) -> bytes:
    """First line of a manifest."""
    from sightline import __version__

    counts = {"inputs": inputs, "inputs_sha256": inputs_sha256}
    return _line({"line": "job", "format": FORMAT, "sightline": __version__, **asdict(header), **counts})


def resumed_line(plan: str, batch: int) -> bytes:
    """A note that another process went on from here; it counts for nothing but provenance."""
    from sightline import __version__

    return _line({"line": "resumed", "sightline": __version__, "plan": plan, "batch": batch})


def retried_line(files_sha256: str) -> bytes:
    """A note that inputs which had been set aside are tried again, with the sizes that files have now."""
    return _line({"line": "retried", "files_sha256": files_sha256})


def shard_lines(shard: Shard, set_aside: Sequence[SetAside]) -> bytes:
    """The lines that commit a shard, its own last."""
    notes = [_line({"line": "set_aside", **asdict(one)}) for one in set_aside]
    return b"".join([*notes, _line({"line": "shard", **asdict(shard)})])


def read_manifest(out: Path) -> Manifest | None:
    """What the folder's manifest records, or None where there is none.

    An incomplete last line is what a crash leaves, and does not count. A shard that was computed twice counts as
    its last line says.

    Raises:
        DamagedOutput: a complete line that does not hold what was written.
        OutputConflict: a later format.
    """
    path = out / MANIFEST
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as reason:
        raise DamagedOutput(f"{path} cannot be read: {reason.strerror or reason}.") from reason
    lines = content.split(b"\n")[:-1]  # what follows the last newline is torn
    if not lines:
        raise DamagedOutput(f"{path} is empty. Delete it and the folder 'shards' beside it, or choose another -o.")
    first, *rest = (_record(path, number, line) for number, line in enumerate(lines, 1))
    header = _header(path, first)
    shards: dict[int, Shard] = {}
    aside: dict[int, list[SetAside]] = {}
    waiting: list[SetAside] = []  # set aside, but their shard is not committed yet
    size = end = len(lines[0]) + 1
    retried = False
    for number, (line, record) in enumerate(zip(lines[1:], rest, strict=True), 2):
        end += len(line) + 1
        try:
            match record.pop("line", None):
                case "set_aside":
                    waiting.append(SetAside(**record))
                case "shard":
                    shard = _shard(record)
                    shards[shard.index] = shard
                    aside[shard.index] = [one for one in waiting if one.shard == shard.index]
                    waiting, size = [], end
                case "resumed":
                    size = end if not waiting else size
                case "retried":
                    header = replace(header, files_sha256=record["files_sha256"])
                    retried = True
                    size = end if not waiting else size
                case other:
                    raise ValueError(f"unknown kind {other!r}")
        except (TypeError, ValueError, KeyError) as reason:
            raise _damaged(path, number, str(reason)) from reason
    ordered = {index: shards[index] for index in sorted(shards)}
    everything = tuple(one for index in ordered for one in aside[index])
    known = (header, first["sightline"], first["inputs"], first["inputs_sha256"])
    return Manifest(*known, ordered, everything, size, retried)


def stored_header(out: Path) -> JobHeader | None:
    """The header of the job in a folder, None where there is no job.

    A caller that resumes takes its batch from here instead of measuring again, so that the rows come out the same
    to the last bit.
    """
    manifest = read_manifest(out)
    return None if manifest is None else manifest.header


_CHECKED = re.compile(rb'(\{.*), "check": "([0-9a-f]{8})"\}')


def _line(record: Mapping[str, object]) -> bytes:
    """JSON that ends in the CRC-32 of itself without it, so that a flipped bit anywhere shows."""
    body = json.dumps(record).encode()
    return body[:-1] + b', "check": "%08x"}\n' % zlib.crc32(body)


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    found = _CHECKED.fullmatch(line)
    if found is None:
        raise _damaged(path, number, "it is no line of a manifest")
    body = found[1] + b"}"
    if zlib.crc32(body) != int(found[2], 16):
        raise _damaged(path, number, "its checksum does not fit")
    return json.loads(body)


def _damaged(path: Path, number: int, reason: str) -> DamagedOutput:
    return DamagedOutput(
        f"Line {number} of {path} is damaged: {reason}. Restore the file from a copy, or cut it before that line "
        "and run with --resume: what the lost lines recorded is then computed anew."
        if number > 1
        else f"The first line of {path} is damaged: {reason}. Restore the file from a copy, or choose another -o."
    )


def _header(path: Path, record: Mapping[str, Any]) -> JobHeader:
    if record.get("line") != "job":
        raise _damaged(path, 1, f"it is a line of kind {record.get('line')!r}, not the job")
    if record["format"] > FORMAT:
        raise OutputConflict(
            f"{path} has format {record['format']}, written by sightline {record['sightline']}; this one reads up to "
            f"{FORMAT}. Upgrade sightline, or choose another -o."
        )
    try:
        return JobHeader(**{field.name: record[field.name] for field in fields(JobHeader) if field.name in record})
    except (KeyError, TypeError, UsageError) as reason:
        raise _damaged(path, 1, str(reason)) from reason


def _shard(record: Mapping[str, Any]) -> Shard:
    values, table = (None if record[name] is None else FileRecord(**record[name]) for name in ("values", "table"))
    return Shard(
        record["index"], record["rows"], record["dtype"], tuple(record["shape"]), values, table,
        record.get("batch"), record.get("seconds"), record.get("files_sha256"),
    )  # fmt: skip
