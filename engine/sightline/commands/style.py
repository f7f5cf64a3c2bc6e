"""Train a network that paints in one pass, paint with it, or compare it: sightline style train|apply|compare."""

from __future__ import annotations

import json as json_format
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from cyclopts import App, Parameter
from PIL import Image

from sightline.ascent.film import film
from sightline.commands._method_flags import command_summary
from sightline.commands._options import ModelOptions, Threads
from sightline.commands._progress import ProgressLine
from sightline.errors import BadImage, OutputConflict, UsageError
from sightline.file_names import stems
from sightline.image import encode_png, find_images, read_image
from sightline.job.files import make_folder, write_atomically
from sightline.job.interrupt import StopRequest, stop_on_interrupt
from sightline.job.run import Progress
from sightline.routes.base import Settings
from sightline.styles import video
from sightline.styles.colours import with_colours_of
from sightline.styles.shares import parse_shares
from sightline.styles.style import Style
from sightline.styles.stylist import Stylist, blended
from sightline.types import ByteArray, FloatArray

COMPARED = "style.json"  # notes of a comparison
BETWEEN = 5  # paintings from one style to another

style = App(name="style", help=command_summary(__file__), help_format="plaintext", result_action="return_value")


@style.command
def apply(
    source: Annotated[str, Parameter(help="A folder of sightline style train, or demo: the style in the box.")],
    /,
    *images: Annotated[str, Parameter(help="Image files, folders or patterns; films by name.")],
    out: Annotated[Path, Parameter(name=("--out", "-o"), help="Folder for NAME.png, and NAME.mp4 of films.")],
    style: Annotated[str | None, Parameter(help="One of a network's several; the first unless given.")] = None,
    shares: Annotated[str | None, Parameter(help="A mix of several, in proportion: brick=0.3,coffee=0.7.")] = None,
    between: Annotated[
        str | None,
        Parameter(help=f"Two styles, brick,coffee: {BETWEEN} paintings side by side, from one to the other."),
    ] = None,
    strength: Annotated[float, Parameter(help="Share of the painting, 0 to 1; the rest is the photograph.")] = 1.0,
    colour: Annotated[
        Literal["style", "luminance"], Parameter(help="Whose colours: luminance keeps the photograph's.")
    ] = "style",
    side: Annotated[
        int | None, Parameter(help="Pixels of the shorter side; as it is unless given. Smaller gives larger strokes.")
    ] = None,
    tile: Annotated[int, Parameter(help="Side of the tiles that large pictures are painted in.")] = 1024,
    batch: Annotated[int, Parameter(help="Pictures of one size per run.")] = 4,
    device: Annotated[Literal["cpu", "cuda"], Parameter(help="Never replaced by another.")] = "cpu",
    threads: Threads = None,
    json: Annotated[bool, Parameter(help="Print one JSON object on stdout, nothing else.", negative="")] = False,
) -> int:
    """Paint pictures and films in one pass, each at its own size."""
    if not images:
        raise UsageError("Name the pictures: files, folders or patterns.")
    if not 0 <= strength <= 1 or batch < 1 or (side is not None and side < 1):
        raise UsageError(f"--strength {strength} must be 0 to 1, --batch {batch} and --side {side} at least 1.")
    read = Style.read(source)
    mixes = _mixes(read, style, shares, between)
    stylists = [Stylist(read, Settings(device=device, threads=threads), tile, mix) for mix in mixes]

    def finish(pictures: Sequence[ByteArray]) -> Iterator[ByteArray]:
        sheets = zip(*(stylist.paint(pictures) for stylist in stylists), strict=True)
        for picture, paintings in zip(pictures, sheets, strict=True):
            finished = [_finished(picture, painting, colour, strength) for painting in paintings]
            yield finished[0] if between is None else np.concatenate(finished, axis=1)

    start = time.monotonic()
    paths = find_images(images)
    names = stems(str(path) for path in paths)
    make_folder(out)
    with ProgressLine("style") as line, stop_on_interrupt(lambda: None) as stop:
        work = _Work(out, side, batch, lambda done: line(Progress(done, len(paths), 0, 0, time.monotonic() - start)))
        work.paint([(path, names[str(path)]) for path in paths], finish, stop)
    seconds = time.monotonic() - start
    for path, reason in work.set_aside:
        print(f"Set aside: {path}: {reason}", file=sys.stderr)
    facts = {
        "command": "style apply", "style": source, "shares": mixes, "out": str(out),
        "painted": [str(path) for path in work.painted],
        "set_aside": [{"path": str(path), "reason": reason} for path, reason in work.set_aside],
        "seconds": seconds, "finished": not stop.made,
    }  # fmt: skip
    print(json_format.dumps(facts) if json else f"{out}: {len(work.painted)} painted in {seconds:.1f} s.")
    return 130 if stop.made else 4 if work.set_aside else 0


def _mixes(
    style: Style, name: str | None, shares: str | None, between: str | None
) -> Sequence[Mapping[str, float] | None]:
    """What every painting's styles are; of a network of one, or where nothing was asked for, a single None."""
    given = {"--style": name, "--shares": shares, "--between": between}
    asked = [flag for flag, value in given.items() if value is not None]
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(asked)} say different things. Give one of them.")
    if name is not None:
        return [{style.require(name): 1.0}]
    if shares is not None:
        return [{style.require(one): share for one, share in parse_shares(shares).items()}]
    if between is None:
        return [None]
    ends = [style.require(one.strip()) for one in between.split(",")]
    if len(set(ends)) != 2 or len(ends) != 2:
        raise UsageError(f"--between {between!r} must name two styles, as brick,coffee does.")
    parts = [place / (BETWEEN - 1) for place in range(BETWEEN)]
    return [{ends[0]: 1 - part, ends[1]: part} for part in parts]


def _finished(picture: ByteArray, painting: ByteArray, colour: str, strength: float) -> ByteArray:
    """With the colours and the strength that were asked for."""
    if colour == "luminance":
        kept = with_colours_of(painting.astype(np.float32), picture.astype(np.float32))
        painting = np.rint(kept).astype(np.uint8)
    return painting if strength == 1 else blended(picture, painting, strength)


class _Work:
    """What is painted into a folder."""

    def __init__(self, out: Path, side: int | None, batch: int, tell: Callable[[int], None]):
        self._out, self._side, self._batch, self._tell = out, side, batch, tell
        self.painted, self.set_aside = list[Path](), list[tuple[Path, str]]()

    def paint(
        self, files: Iterable[tuple[Path, str]], finish: Callable[[Sequence[ByteArray]], Iterable[ByteArray]],
        stop: StopRequest,
    ) -> None:  # fmt: skip
        """Every file in turn, pictures of one size together."""
        waiting = list[tuple[str, ByteArray]]()

        def flush() -> None:
            for (name, _), painting in zip(waiting, finish([picture for _, picture in waiting]), strict=True):
                self._write(f"{name}.png", encode_png(painting))
            waiting.clear()

        for path, name in files:
            if stop.made:
                break
            try:
                if path.suffix.lower() in video.SUFFIXES:
                    one = video.open_film(path)
                    frames = (next(iter(finish([self._sized(frame)]))) for frame in one.frames())
                    self._write(f"{name}.mp4", film(frames, ".mp4", rate=one.rate))
                    continue
                picture = self._sized(np.asarray(read_image(path)))
            except BadImage as reason:
                self.set_aside.append((path, str(reason)))
                continue
            if waiting and (len(waiting) == self._batch or waiting[-1][1].shape != picture.shape):
                flush()
            waiting.append((name, picture))
        flush()

    def _sized(self, picture: ByteArray) -> ByteArray:
        if self._side is None:
            return picture
        factor = self._side / min(picture.shape[:2])
        height, width = (max(1, round(length * factor)) for length in picture.shape[:2])
        return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))

    def _write(self, name: str, content: bytes) -> None:
        write_atomically(self._out / name, [content])
        self.painted.append(self._out / name)
        self._tell(len(self.painted) + len(self.set_aside))


@style.command
def train(
    picture: Annotated[str, Parameter(help="The style, an image file.")],
    /,
    *images: Annotated[str, Parameter(help="Pictures to learn on: files, folders or patterns.")],
    model: Annotated[str, Parameter(help="The network that judges: an .onnx file, torchvision:NAME or timm:NAME.")],
    out: Annotated[Path, Parameter(name=("--out", "-o"), help="Folder of the style.")],
    style: Annotated[
        tuple[str, ...],
        Parameter(help="One more style for the same network, as often as you like; apply can mix them."),
    ] = (),
    steps: Annotated[int, Parameter(help="Batches that are learnt from.")] = 2000,
    batch: Annotated[int, Parameter(help="Pictures per step.")] = 4,
    crop: Annotated[int, Parameter(help="Side of the pictures in pixels, a multiple of 4.")] = 192,
    width: Annotated[int, Parameter(help="Channels at full size; four times as many inside.")] = 16,
    blocks: Annotated[int, Parameter(help="Residual blocks.")] = 5,
    style_side: Annotated[int, Parameter(help="Pixels of the style's shorter side: more give larger strokes.")] = 384,
    style_weight: Annotated[float, Parameter(help="Of the style's loss.")] = 10.0,
    content_weight: Annotated[float, Parameter(help="Of the content's loss.")] = 0.5,
    total_variation: Annotated[float, Parameter(help="Weight of differences between neighbours.")] = 0.05,
    style_layers: Annotated[tuple[str, ...], Parameter(help="As run style_transfer takes them, one per flag.")] = (),
    content_layers: Annotated[
        tuple[str, ...], Parameter(help="As run style_transfer takes them, one per flag.")
    ] = (),
    rate: Annotated[float, Parameter(help="Of Adam.")] = 2e-3,
    seed: Annotated[int, Parameter(help="Of weights and crops.")] = 0,
    every: Annotated[int, Parameter(help="Steps between two checkpoints, with curves and painted pictures.")] = 50,
    resume: Annotated[bool, Parameter(help="Go on with the training that is in OUT.", negative="")] = False,
    device: Annotated[Literal["cpu", "cuda"], Parameter(help="Never replaced by another.")] = "cpu",
    threads: Threads = None,
    model_options: ModelOptions = ModelOptions(),  # noqa: B008 - frozen
) -> int:
    """Train a network that paints in the style of a picture; Ctrl-C and --resume at will."""
    from sightline.styles.training.lesson import Lesson, Losses
    from sightline.styles.training.pictures import Files
    from sightline.styles.training.training import Course
    from sightline.styles.training.training import train as train_style

    if not images:
        raise UsageError("Name the pictures to learn on: files, folders or patterns.")
    if every < 1:
        raise UsageError(f"--every {every} must be at least 1.")
    lesson = Lesson(
        width=width, blocks=blocks, crop=crop, batch=batch, steps=steps, rate=rate, style_side=style_side,
        style_weight=style_weight, content_weight=content_weight, total_variation=total_variation,
        style_layers=style_layers, content_layers=content_layers, seed=seed,
    )  # fmt: skip
    lesson.check()
    course = Course(
        folder=out, styles=_styles((picture, *style), style_side),
        pictures=Files(find_images(images)), every=every, threads=threads, device=device,
    )  # fmt: skip
    start = time.monotonic()
    with (
        model_options.load(model) as network,
        ProgressLine("style train") as line,
        stop_on_interrupt(lambda: None) as stop,
    ):

        def tell(done: int, total: int, losses: Losses) -> bool:
            each = "".join(f", {name} {loss:.3g}" for name, (loss, _) in losses.by_style.items())
            line.note(f"style {losses.style:.3g}{each}, content {losses.content:.3g}")
            line(Progress(done, total, 0, 0, time.monotonic() - start))
            return not stop.made

        finished = train_style(network, lesson, course, tell, resume=resume)
    print(
        f"{out}: " + ("finished; paint with it: sightline style apply" if finished else "stopped; --resume goes on")
    )
    return 0 if finished else 130


def _styles(pictures: Sequence[str], side: int) -> dict[str, FloatArray]:
    """Styles by name: the file's of a single one, of several what is short and safe."""
    from sightline.methods.gradient.style_transfer import read_style

    twice = [name for name, count in Counter(pictures).items() if count > 1]
    if twice:
        raise UsageError(f"{twice[0]} is given as a style {pictures.count(twice[0])} times. Give every style once.")
    names = stems(pictures) if len(pictures) > 1 else {pictures[0]: Path(pictures[0]).name}
    return {names[picture]: read_style(picture, side) for picture in pictures}


@style.command
def compare(
    source: Annotated[str, Parameter(help="A folder of sightline style train, demo, or a picture of a style.")],
    content: Annotated[Path, Parameter(help="The photograph.")],
    /,
    *,
    model: Annotated[str, Parameter(help="The network that judges: an .onnx file, torchvision:NAME or timm:NAME.")],
    out: Annotated[Path, Parameter(name=("--out", "-o"), help="Folder of the page, the pictures and style.json.")],
    side: Annotated[int, Parameter(help="Pixels of every result.")] = 256,
    steps: Annotated[int, Parameter(help="Of the descents.")] = 300,
    seed: Annotated[int, Parameter(help="Of what is drawn.")] = 0,
    device: Annotated[Literal["cpu", "cuda"], Parameter(help="Never replaced by another.")] = "cpu",
    threads: Threads = None,
    json: Annotated[bool, Parameter(help="Print one JSON object on stdout, nothing else.", negative="")] = False,
    model_options: ModelOptions = ModelOptions(),  # noqa: B008 - frozen
) -> int:
    """A page of one style: textures and paintings by every way there is, with what each costs."""
    from sightline.report.style_page import verdict, write_page
    from sightline.styles.comparison import Comparison, Made

    if side < 32 or steps < 1 or seed < 0:
        raise UsageError(f"--side {side} must be at least 32, --steps {steps} at least 1, --seed {seed} at least 0.")
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / COMPARED).is_file())):
        raise OutputConflict(f"{out} is not empty and holds no comparison. Choose a folder that is new or empty.")
    read_image(content)
    options: dict[str, Any] = {"side": side, "steps": steps, "seed": seed, "device": device, "threads": threads}
    with model_options.load(model) as network, ProgressLine("style compare") as line:
        comparison = Comparison.of(network, source, content, **options)
        made = list[Made](comparison.run(line.note))
        make_folder(out)
        for one in made:
            write_atomically(out / f"{one.name}.png", [encode_png(one.pixels)])
        page = write_page(
            out / "style.html", style=source, content=content.name, model=network.path.name,
            where="a GPU" if device == "cuda" else f"{threads or os.cpu_count()} threads", made=made,
        )  # fmt: skip
    rows = [
        {"name": one.name, "seconds": one.seconds, "style_loss": one.style_loss, "content_loss": one.content_loss}
        for one in made
    ]
    facts = {"command": "style compare", "style": source, "content": str(content), "page": str(page), "made": rows}
    write_atomically(out / COMPARED, [json_format.dumps(facts, indent=1).encode()])
    print(json_format.dumps(facts) if json else f"{verdict(made)}\n{page}")
    return 0
