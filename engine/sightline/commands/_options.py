"""Options that several commands share, and what they make."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from sightline.errors import UsageError
from sightline.precision import Precision
from sightline.preprocess import PRESETS, Channels, Interpolation, Preprocess
from sightline.routes.base import Device, Settings, Sweep, usual_memory
from sightline.threads import check_threads

if TYPE_CHECKING:
    from sightline.model import Model

MODEL = Group("Model", sort_key=2)
COMPUTE = Group("Compute", sort_key=3)


def _check(_: Any, threads: int | None) -> None:
    check_threads(threads, "It")  # after the flag and its value, which cyclopts names


Threads = Annotated[
    int | None, Parameter(help="Threads of one operator; all cores unless given.", validator=_check)
]  # of every command that takes them


@Parameter(name="*", group=MODEL)
@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What the model's file may leave unsaid."""

    preset: Annotated[str | None, Parameter(help=f"How images become the input: {', '.join(PRESETS)}.")] = None
    mean: Annotated[
        str | None, Parameter(help="Mean per channel of scaled pixels, for example 0.485,0.456,0.406.")
    ] = None
    std: Annotated[str | None, Parameter(help="Standard deviation per channel, likewise.")] = None
    scale: Annotated[float | None, Parameter(help="What pixels of 0 to 255 are multiplied with (1/255).")] = None
    size: Annotated[str | None, Parameter(help="Input size in pixels: 224 or HEIGHTxWIDTH.")] = None
    resize: Annotated[str | None, Parameter(help="Shorter side, or HEIGHTxWIDTH, to resize to before the crop.")] = (
        None
    )
    channel_order: Annotated[Channels | None, Parameter(help="Colour order that the model reads.")] = None
    interpolation: Annotated[Interpolation | None, Parameter(help="How to resize.")] = None
    labels: Annotated[Path | None, Parameter(help="Class names: a JSON list, or a text file with one a line.")] = None
    output: Annotated[str | None, Parameter(help="Output that holds the class scores, if not the first.")] = None
    weights: Annotated[Path | None, Parameter(help="Local weights for torchvision:NAME or timm:NAME.")] = None

    def load(self, source: str) -> Model:
        """The model with these options applied."""
        from sightline.model import load, named_preset  # a third of a second, which --help need not wait for

        size, changes = parse_size(self.size, "--size"), self._changes()
        chosen = named_preset(self.preset).changed(**changes) if self.preset is not None else None
        model = load(
            source, preprocess=chosen, labels=self.labels, size=size, output=self.output, weights=self.weights
        )
        if changes and chosen is None:
            start = model.preprocess if model.has_preprocess else _plain(model, size, changes.get("resize"))
            model.preprocess = start.changed(**changes)
        return model

    def _changes(self) -> dict[str, Any]:
        resize = parse_size(self.resize, "--resize")
        given = {
            "mean": parse_numbers(self.mean, "--mean"),
            "std": parse_numbers(self.std, "--std"),
            "scale": self.scale,
            "resize": resize[0] if resize is not None and "x" not in str(self.resize) else resize,
            "channels": self.channel_order,
            "interpolation": self.interpolation,
        }
        return {name: value for name, value in given.items() if value is not None}


@Parameter(name="*", group=COMPUTE)
@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """Where and how it runs."""

    device: Annotated[Device, Parameter(help="Never replaced by another: a missing one is an error.")] = "cpu"
    threads: Threads = None
    batch: Annotated[int | None, Parameter(help="Images per run; found by measuring unless given.")] = None
    memory: Annotated[
        str | None, Parameter(help="What the activations of one run may take; 2GB, or 16GB on a GPU, unless given.")
    ] = None
    sweep: Annotated[
        Sweep, Parameter(help="Hide windows by computing only what each changes, or the whole network.")
    ] = "auto"
    route: Annotated[str | None, Parameter(help="Ask this route only: ort, tensorrt, autograd.")] = None
    gpu: Annotated[int, Parameter(help="Number of the GPU, as CUDA counts.")] = 0
    precision: Annotated[
        Precision, Parameter(help="Of layers: tf32 on a GPU, bf16 for gradients; graphs carry their own otherwise.")
    ] = "fp32"
    cuda_graphs: Annotated[
        bool, Parameter(help="Capture the twin's runs that come again, as ascents do, on --device cuda.", negative="")
    ] = False

    def plan_options(self) -> dict[str, Any]:
        """As ``Model.plan`` takes them."""
        return {
            "device": self.device,
            "threads": self.threads,
            "batch": self.batch,
            "memory": self._bytes(),
            "sweep": self.sweep,
            "route": self.route,
            "gpu": self.gpu,
            "precision": self.precision,
            "cuda_graphs": self.cuda_graphs,
        }

    def settings(self) -> Settings:
        """As routes take them."""
        return Settings(
            self.device, self.threads, self.batch, self._bytes() or usual_memory(self.device), self.sweep,
            gpu=self.gpu, precision=self.precision, cuda_graphs=self.cuda_graphs,
        )  # fmt: skip

    def _bytes(self) -> int | None:
        return None if self.memory is None else parse_bytes(self.memory)


def _plain(model: Model, size: tuple[int, int] | None, resize: int | tuple[int, int] | None) -> Preprocess:
    """A start for somebody who gives the numbers one by one: the whole image, or resized and then cropped to size."""
    extent = model.input.size or size
    if extent is None:
        raise UsageError(f"{model.path.name} takes images of any size: give --size beside --mean and --std.")
    grey = model.input.channels == 1
    count = 1 if grey else 3
    return Preprocess(
        resize=resize or extent,
        crop=extent if resize else None,
        channels="L" if grey else "RGB",
        mean=(0.0,) * count,
        std=(1.0,) * count,
    )


def parse_size(text: str | None, flag: str) -> tuple[int, int] | None:
    """(height, width) from "224", "224x320" or "224,320".

    Raises:
        UsageError: anything else.
    """
    if text is None:
        return None
    parts = text.lower().replace(",", "x").split("x")
    if not 1 <= len(parts) <= 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"{flag} {text!r} is no size. Give 224 or HEIGHTxWIDTH, in pixels.")
    return int(parts[0]), int(parts[-1])


def parse_numbers(text: str | None, flag: str) -> tuple[float, ...] | None:
    """Numbers separated by commas or spaces.

    Raises:
        UsageError: something is no number.
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise UsageError(f"{flag} {text!r} holds something else than numbers. Give 0.485,0.456,0.406.") from None


def parse_bytes(text: str, flag: str = "--memory") -> int:
    """Bytes from "2GB", "512MB" or a plain number; powers of 1,024.

    Raises:
        UsageError: anything else.
    """
    units = {"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "B": 1}
    upper = text.strip().upper().replace("IB", "B")
    suffix = next((name for name in units if upper.endswith(name)), "")
    number = upper.removesuffix(suffix).strip()
    try:
        value = int(float(number) * units.get(suffix, 1))
    except (ValueError, OverflowError):
        value = 0
    if value < 1:
        raise UsageError(f"{flag} {text!r} is no amount. Give 2GB, 512MB or a number of bytes.")
    return value
