"""A trained style: a folder with the network and what is known of it, or the one in the box."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import onnx_ir as ir

from sightline.errors import BadModel, UnknownName, UsageError
from sightline.graph.load import LoadedGraph, load_graph
from sightline.graph.mix_norm import SHARES

GRAPH, CARD, PICTURE, PICTURES = "style.onnx", "style.json", "style.png", "styles"
STYLES = "sightline.styles"  # metadata of a network of several: their names, a JSON list
OWN = Path(__file__).with_name("demo")


@dataclass(frozen=True)
class Learnt:
    """One of the styles of a network.

    Attributes:
        name: of its picture.
        style_loss, content_loss: means over the last steps.
    """

    name: str
    style_loss: float
    content_loss: float


@dataclass(frozen=True)
class Card:
    """What a style folder says of itself.

    Attributes:
        style: the picture that was learnt; of several their names.
        model: the network that judged.
        steps: of the training.
        style_weight, content_weight: of the losses.
        style_loss, content_loss: means over its last steps.
        parity: of the file and the network that was trained.
        styles: each of several.
    """

    style: str
    model: str
    steps: int
    style_weight: float
    content_weight: float
    style_loss: float
    content_loss: float
    parity: str
    styles: tuple[Learnt, ...] = ()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """As ``to_json`` writes it."""
        facts: dict[str, Any] = json.loads(text)
        facts["styles"] = tuple(Learnt(**one) for one in facts.get("styles", ()))
        return cls(**facts)

    def to_json(self) -> str:
        """As it lies in the folder; of one style without a list of them."""
        facts = asdict(self)
        if not self.styles:
            del facts["styles"]
        return json.dumps(facts, indent=1) + "\n"


@dataclass(frozen=True)
class Style:
    """A network that paints.

    Attributes:
        name: as the user gave it.
        graph: (B, 3, H, W) of 0 to 1 to the same, any multiples of 4; of several styles also ``shares`` (N,).
        card: what is known of it, None of a bare ``.onnx`` file.
        picture: that was learnt, the first of several; None of a bare ``.onnx`` file.
        names: of several styles, in the order of their shares; none of a network of one.
    """

    name: str
    graph: ir.Model
    card: Card | None
    picture: Path | None
    names: tuple[str, ...] = ()

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
        loaded = load_graph(path)
        graph = loaded.model.graph
        ports = [value for value in (*graph.inputs, *graph.outputs) if value.name != SHARES]
        if [(value.shape and len(value.shape), value.shape and value.shape[1]) for value in ports] != [(4, 3)] * 2:
            raise BadModel(f"{path} does not turn pictures (B, 3, H, W) into pictures: it is no style network.")
        names = _names(loaded, path)
        card, picture = path.with_name(CARD), picture_of(path.parent, names[0] if names else None)
        known = Card.from_json(card.read_text(encoding="utf-8")) if card.is_file() else None
        return cls(source, loaded.model, known, picture if picture.is_file() else None, names)

    def require(self, name: str) -> str:
        """The name of one of several styles, as it was given.

        Raises:
            UsageError: there is one style only.
            UnknownName: none is called so.
        """
        if not self.names:
            raise UsageError(f"{self.name} holds one style, so {name!r} cannot be chosen of it: name none.")
        if name not in self.names:
            raise UnknownName("style", name, self.names)
        return name


def picture_of(folder: Path, name: str | None) -> Path:
    """Where a folder keeps the picture of its style, or of one of several."""
    return folder / PICTURE if name is None else folder / PICTURES / f"{name}.png"


def _names(loaded: LoadedGraph, path: Path) -> tuple[str, ...]:
    """What a network's styles are called.

    Raises:
        BadModel: it takes shares of other styles than it names.
    """
    given = next((value for value in loaded.model.graph.inputs if value.name == SHARES), None)
    try:
        names = [str(name) for name in json.loads(loaded.metadata.get(STYLES, "[]"))]
    except (ValueError, TypeError):
        names = []
    wanted = [] if given is None else list(given.shape or ())
    if wanted != ([len(names)] if given is not None else []) or len(set(names)) < len(names):
        raise BadModel(
            f"{path} takes shares of shape {tuple(wanted)} and its metadata {STYLES} names {len(names)} styles. "
            "Train it again with sightline style train."
        )
    return tuple(names) if given is not None else ()
