"""Make more of what a sample shows, mend its holes or grow a picture: sightline texture SAMPLE -o DIR."""

from __future__ import annotations

import json as json_format
import math
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from sightline.commands._options import Threads, parse_size
from sightline.commands._progress import ProgressLine
from sightline.errors import OutputConflict, UsageError
from sightline.image import PIXEL_LIMIT, encode_png
from sightline.job.files import make_folder, write_atomically
from sightline.job.interrupt import stop_on_interrupt
from sightline.job.run import Progress
from sightline.textures.quilting import Quilting
from sightline.textures.sample import Sample, read_hole
from sightline.textures.scanline import Scanline
from sightline.textures.texture import Tell, Texture
from sightline_kernels.scanline.task import Order

PICTURE, ORIGIN = "texture.png", "origin.png"


def texture(
    sample: Annotated[Path, Parameter(help="The picture to make more of; with --mask, the one to mend.")],
    /,
    *,
    out: Annotated[Path, Parameter(name=("--out", "-o"), help=f"Folder for {PICTURE} and {ORIGIN}.")],
    method: Annotated[
        Literal["scanline", "quilting"], Parameter(help="Pixel by pixel, or block by block and much faster.")
    ] = "scanline",
    size: Annotated[str | None, Parameter(help="HEIGHTxWIDTH in pixels; twice the sample unless given.")] = None,
    window: Annotated[
        int | None,
        Parameter(help="Side of a neighbourhood (11, odd) or of a block (3/8 of the sample): as large as the "
        "largest regular feature."),
    ] = None,
    tolerance: Annotated[float, Parameter(help="How much worse than the best match another may be.")] = 0.1,
    order: Annotated[Order, Parameter(help="Of pixels: outward from what is there, or line after line.")] = "outward",
    tileable: Annotated[bool, Parameter(help="Opposite edges continue each other.", negative="")] = False,
    mask: Annotated[
        Path | None, Parameter(help="A picture of the sample's size: what is white there is made anew.")
    ] = None,
    grow_from: Annotated[
        Path | None, Parameter(help="A picture that stays, in the middle, and grows by the sample's texture.")
    ] = None,
    seed: Annotated[int, Parameter(help="Other seeds give other textures.")] = 0,
    threads: Threads = None,
    json: Annotated[bool, Parameter(help="Print one JSON object on stdout, nothing else.", negative="")] = False,
) -> int:  # fmt: skip
    """Make a texture from a sample, close a hole or grow a picture."""
    _refuse(method, order, mask, grow_from, size, tolerance, seed)
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / PICTURE).is_file())):
        raise OutputConflict(f"{out} is not empty and holds no texture. Choose a folder that is new or empty.")
    source, extent = Sample.read(sample), parse_size(size, "--size")
    shared: dict[str, Any] = {"tolerance": tolerance, "tileable": tileable, "seed": seed, "threads": threads}
    maker = (
        Quilting(window=window, **shared)
        if method == "quilting"
        else Scanline(**({} if window is None else {"window": window}), order=order, **shared)
    )
    start = time.monotonic()
    with ProgressLine("texture") as line, stop_on_interrupt(lambda: None) as stop:

        def tell(done: int, total: int) -> bool:
            line(Progress(done, total, 0, 0, time.monotonic() - start))
            return not stop.made

        made = _make(maker, source, extent, mask, grow_from, tell)
    seconds = time.monotonic() - start
    make_folder(out)
    write_atomically(
        out / PICTURE, [encode_png(made.pixels.squeeze(2) if made.pixels.shape[2] == 1 else made.pixels)]
    )
    origin = made.origin(source.size[0])
    if origin is not None:
        write_atomically(out / ORIGIN, [encode_png(origin)])
    facts = {
        "command": "texture", "out": str(out), "texture": str(out / PICTURE), "origin": str(out / ORIGIN),
        "method": repr(maker), "sample": str(sample), "size": list(made.pixels.shape[:2]),
        "sample_size": list(source.size), "channels": made.pixels.shape[2], "one_colour": source.is_one_colour,
        "made": made.count,
        "contiguous": made.contiguous, "seconds": seconds, "finished": made.finished,
    }  # fmt: skip
    print(json_format.dumps(facts, ensure_ascii=False) if json else _text(facts))
    return 0 if made.finished else 130


def _refuse(
    method: str, order: str, mask: Path | None, grow_from: Path | None, size: str | None, tolerance: float, seed: int
) -> None:
    """What cannot be, whatever the sample."""
    if mask is not None and grow_from is not None:
        raise UsageError("--mask closes holes of the sample and --grow-from grows another picture: give one of them.")
    if method == "quilting" and (mask is not None or grow_from is not None or order != "outward"):
        given = "--mask" if mask is not None else "--grow-from" if grow_from is not None else "--order"
        raise UsageError(f"{given} needs --method scanline: quilting lays whole blocks on an empty canvas.")
    if mask is not None and size is not None:
        raise UsageError("With --mask the picture keeps its size: leave --size out.")
    if not 0 <= tolerance < math.inf:
        raise UsageError(f"--tolerance {tolerance} must be 0 or more, 0.1 say.")
    if not 0 <= seed < 2**63:
        raise UsageError(f"--seed {seed} must be 0 or more, and below 2**63.")


def _make(
    maker: Scanline | Quilting, source: Sample, extent: tuple[int, int] | None, mask: Path | None,
    grow_from: Path | None, tell: Tell,
) -> Texture:  # fmt: skip
    """The one of three things that was asked for."""
    extent = extent or (2 * source.size[0], 2 * source.size[1])
    if extent[0] * extent[1] > PIXEL_LIMIT:
        raise UsageError(f"--size {extent[0]}x{extent[1]} is beyond the {PIXEL_LIMIT} pixels that can be made.")
    if isinstance(maker, Scanline) and mask is not None:
        return maker.mend(source, read_hole(mask, source.size), tell)
    if isinstance(maker, Scanline) and grow_from is not None:
        return maker.grow(source, Sample.read(grow_from), extent, tell)
    return maker.make(source, extent, tell)


def _text(facts: dict[str, Any]) -> str:
    height, width = facts["size"]
    lines = [f"{facts['texture']}: {height} x {width} pixels, {facts['made']} made in {facts['seconds']:.1f} s"]
    if facts["contiguous"] is not None:
        lines.append(
            f"{facts['origin']}: where they come from; {facts['contiguous']:.0%} of neighbours lie side by side in "
            "the sample, too"
        )
    if facts["one_colour"]:
        lines.append(f"{facts['sample']} has one colour only, and so has what is made from it.")
    if not facts["finished"]:
        lines.append("Stopped early: what was not made is black.")
    return "\n".join(lines)
