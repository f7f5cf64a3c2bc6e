"""The page of a tour: questions, what textbooks say, and what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline.colour import number
from sightline.model import Model
from sightline.report.template import save_page
from sightline.report.thumbnails import inline
from sightline.tour.chapter import Visited


@dataclass(frozen=True)
class Part:
    """A chapter on the page."""

    number: int
    visited: Visited

    @property
    def verdict(self) -> str:
        """Whether what textbooks say holds, in a word."""
        answer = self.visited.answer
        if answer is None:
            return "not answered"
        return "cannot tell" if answer.holds is None else "holds here" if answer.holds else "does not hold here"

    @property
    def pictures(self) -> Iterator[tuple[str, str]]:
        """A data URI and a caption of each."""
        for one in () if self.visited.answer is None else self.visited.answer.pictures:
            yield inline(one.pixels), one.caption

    @property
    def figures(self) -> Iterator[tuple[str, str, str]]:
        """Name, value and meaning."""
        answer = self.visited.answer
        for name, meaning in self.visited.chapter.figures.items():
            if answer is not None and name in answer.figures:
                yield name, number(answer.figures[name]), meaning


def write_page(path: Path, model: Model, images: int, visited: Sequence[Visited]) -> Path:
    """One file without network access."""
    parts = [Part(place, one) for place, one in enumerate(visited, 1)]
    return save_page(path, "tour.html", model=model.path.name, images=images, parts=parts)
