"""A trained style: a folder with the network and what is known of it, or the one in the box."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import onnx_ir as ir

from sightline.errors import BadModel, UsageError
from sightline.graph.load import load_graph

GRAPH, CARD, PICTURE = "style.onnx", "style.json", "style.png"
OWN = Path(__file__).with_name("demo")


@dataclass(frozen=True)
class Card:
    """What a style folder says of itself.

    Attributes:
        style: the picture that was learnt.
        model: the network that judged.
        steps: of the training.
        style_weight, content_weight: of the losses.
        style_loss, content_loss: means over its last steps.
        parity: of the file and the network that was trained.
    """

    style: str
    model: str
    steps: int
    style_weight: float
    content_weight: float
    style_loss: float
    content_loss: float
    parity: str

    def to_json(self) -> str:
        """As it lies in the folder."""
        return json.dumps(asdict(self), indent=1) + "\n"


@dataclass(frozen=True)
class Style:
    """A network that paints.

    Attributes:
        name: as the user gave it.
        graph: (B, 3, H, W) of 0 to 1 to the same, any multiples of 4.
        card: what is known of it, None of a bare ``.onnx`` file.
        picture: that was learnt, None of a bare ``.onnx`` file.
    """

    name: str
    graph: ir.Model
    card: Card | None
    picture: Path | None

    @classmethod
    def read(cls, source: str) -> Self:
        """A folder that ``sightline style train`` wrote, an ``.onnx`` file of such a network, or ``demo``.

        Raises:
            UsageError: there is no finished style.
            BadModel: the file is no network that paints.
        """
        folder = OWN if source == "demo" else Path(source)
        path = folder if folder.is_file() else folder / GRAPH
        if not path.is_file():
            there = (
                f"{folder} holds no {GRAPH}: its training is not finished"
                if folder.is_dir()
                else f"There is no {folder}"
            )
            raise UsageError(f"{there}. Give demo, or a folder that sightline style train finished.")
        graph = load_graph(path).model
        shapes = [
            (value.shape and len(value.shape), value.shape and value.shape[1])
            for value in (*graph.graph.inputs, *graph.graph.outputs)
        ]
        if shapes != [(4, 3), (4, 3)]:
            raise BadModel(f"{path} does not turn pictures (B, 3, H, W) into pictures: it is no style network.")
        card, picture = path.with_name(CARD), path.with_name(PICTURE)
        known = Card(**json.loads(card.read_text(encoding="utf-8"))) if card.is_file() else None
        return cls(source, graph, known, picture if picture.is_file() else None)
