"""Kinds of sources, one file each: ``sources/KIND.py`` answers to ``KIND:NAME[@WEIGHTS]``."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sightline_exporters.errors import UnknownSource


@dataclass(frozen=True)
class Request:
    """What is asked of a kind of source.

    Attributes:
        name: of the model.
        weights: by name; "" asks for the default ones.
        file: local weights to use instead.
        random: no weights at all; drawn from torch's generator.
    """

    name: str
    weights: str
    file: Path | None
    random: bool


@dataclass(frozen=True)
class Source:
    """A module and what its publisher says about it.

    Attributes:
        module: takes (B, C, H, W).
        description: for the metadata: kind, name and weights.
        channels: C.
        size: (height, width) it was trained at; None where unknown.
        preprocess: the eight fields; None where the publisher's cannot be said in them.
        labels: K names; None where unknown.
    """

    module: torch.nn.Module
    description: str
    channels: int
    size: tuple[int, int] | None
    preprocess: Mapping[str, object] | None
    labels: Sequence[str] | None


def kinds() -> list[str]:
    """Names of all kinds of sources: the files of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def open_source(text: str, *, file: Path | None, random: bool) -> Source:
    """Build what ``KIND:NAME[@WEIGHTS]`` names; the weights ``none`` are random ones.

    Raises:
        UnknownSource: no such kind, model or weights.
        MissingExtra, MissingWeights, BadWeights: it cannot be built.
    """
    kind, _, rest = text.partition(":")
    name, _, weights = rest.partition("@")
    if kind not in kinds() or not name:
        raise UnknownSource("kind of source", text, [f"{known}:NAME" for known in kinds()])
    builder: Any = importlib.import_module(f"{__name__}.{kind}")
    random = random or weights.lower() == "none"
    return builder.build(Request(name, "" if weights.lower() == "none" else weights, file, random))
