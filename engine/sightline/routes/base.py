"""What a route is: a way to run the graph, with reasons when it cannot."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sightline.abilities import Ability, Oracle
from sightline.precision import Precision
from sightline.threads import check_threads
from sightline.types import IntArray

if TYPE_CHECKING:
    from sightline.model import Model

Device = Literal["cpu", "cuda", "tensorrt"]
Sweep = Literal["auto", "incremental", "dense"]


@dataclass(frozen=True)
class Settings:
    """How to open a route.

    Attributes:
        device: where it runs.
        threads: of one operator; None is the number of physical cores that the process may use.
        batch: images per run; None is found by measuring.
        memory: bytes that activations of one run may take.
        sweep: how windows are hidden in turn: only what each changes is computed, or the whole network, or whichever
            is faster.
        size: (H, W) of images where the graph leaves it open.
        gpu: number of the device, as CUDA counts; nothing on the CPU.
        precision: of layers. "fp32" is what everything is compared in; "tf32" and "bf16" are faster on a GPU and said
            in every plan. Graphs on ONNX Runtime carry their own, but for "tf32" on CUDA; "bf16" is the twin's.
        cuda_graphs: whether the twin's runs that come again with pictures of one size are captured as CUDA graphs.
    """

    device: Device = "cpu"
    threads: int | None = None
    batch: int | None = None
    memory: int = 2 << 30
    sweep: Sweep = "auto"
    size: tuple[int, int] | None = None
    gpu: int = 0
    precision: Precision = "fp32"
    cuda_graphs: bool = False

    def __post_init__(self) -> None:
        check_threads(self.threads)


def usual_memory(device: Device) -> int:
    """Bytes that the activations of one run may take where nobody said: what most machines of that kind have."""
    return (2 if device == "cpu" else 16) << 30


@dataclass(frozen=True)
class Forecast:
    """How a window sweep will be run, and what one image is predicted to cost.

    Attributes:
        rewrite: graph pass that applies; None runs the whole network for every window.
        macs: multiply-accumulates, the untouched image included.
        speed_up: predicted, of the rewrite against the whole network.
        ceiling: speed-up that the multiply-accumulates alone would allow.
        reasons: why there is no rewrite.
    """

    rewrite: str | None
    macs: int
    speed_up: float
    ceiling: float
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Request:
    """What somebody wants of a route."""

    needs: Ability
    model: Model
    settings: Settings


class Route(ABC):
    """One way to run the graph.

    Attributes:
        name: what ``--route`` takes.
        offers: the abilities that an opened route has.
        tolerance: largest relative difference of its scores from the reference route (ONNX Runtime on the CPU, fp32).
        cost: forward passes that one call of its dearest ability takes.
    """

    name: str
    offers: Sequence[Ability]
    tolerance: float
    cost: int = 1

    def reasons_against(self, request: Request) -> list[str]:
        """Why this route cannot serve the request: sentences, none if it can."""
        if not any(request.needs in offer.__mro__ for offer in self.offers):
            offered = ", ".join(offer.__name__ for offer in self.offers)
            return [f"It does not offer {request.needs.__name__} (it offers {offered})."]
        return self.obstacles(request)

    @abstractmethod
    def obstacles(self, request: Request) -> list[str]:
        """Why the machine or the model stands in the way; the ability is there."""

    def forecast(self, model: Model, settings: Settings, windows: IntArray, tolerance: float) -> Forecast | None:
        """What a sweep over windows will cost; None of a route that offers none."""
        return None

    @abstractmethod
    def provider(self, settings: Settings) -> str:
        """What runs the operators, for the plan."""

    @abstractmethod
    def open(self, model: Model, settings: Settings) -> Oracle:
        """Make it ready to run; close it when done."""
