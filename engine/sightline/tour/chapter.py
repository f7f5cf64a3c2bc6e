"""What a chapter of the tour is, and what it answers."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol

from sightline.types import ByteArray

if TYPE_CHECKING:
    from sightline.tour.visit import Visit


@dataclass(frozen=True)
class Picture:
    """Something to look at: pixels (h, w, 3) and what they show."""

    pixels: ByteArray
    caption: str


@dataclass(frozen=True)
class Answer:
    """What was measured.

    Attributes:
        text: sentences with the numbers in them.
        figures: the numbers by name; what they mean is said in the chapter.
        pictures: that show it.
        holds: whether what textbooks say is so here; None where this network or these images cannot tell.
    """

    text: str
    figures: Mapping[str, float]
    pictures: tuple[Picture, ...] = ()
    holds: bool | None = None


class Chapter(Protocol):
    """One question.

    Attributes:
        name: of its file.
        place: chapters run and are shown in rising order.
        title: a heading.
        question: as a reader would ask it.
        claim: what textbooks answer.
        figures: every figure, and what it means.
    """

    name: str
    place: int
    title: str
    question: str
    claim: str
    figures: Mapping[str, str]

    def visit(self, visit: Visit) -> Answer:
        """Measure.

        Raises:
            SightlineError: this network or these images cannot answer; the reason stands on the page.
        """
        ...


@dataclass(frozen=True)
class Visited:
    """A chapter, its answer or why there is none, and how long it took in seconds."""

    chapter: Chapter
    answer: Answer | None
    reason: str = ""
    seconds: float = 0.0


@cache
def chapters() -> tuple[Chapter, ...]:
    """All of them: the files of the folder ``chapters``, each of which ends in ``CHAPTER = …``."""
    import sightline.tour.chapters as folder

    found = [
        importlib.import_module(f"{folder.__name__}.{one.name}").CHAPTER
        for one in pkgutil.iter_modules(folder.__path__)
    ]
    return tuple(sorted(found, key=lambda chapter: chapter.place))
