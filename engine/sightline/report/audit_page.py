"""The page of an audit: the verdict, what was found, where the two part, and pictures."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.audit.gates import Ruling, tally
from sightline.audit.record import Verdict
from sightline.audit.run import Audited
from sightline.audit.section import sections
from sightline.colour import number
from sightline.report.template import save_page

WIDTH, HEIGHT = 560, 150  # of a plot
FLOOR = 1e-7  # smallest relative difference that the plot of layers tells apart


@dataclass(frozen=True)
class Part:
    """A candidate on the page."""

    audited: Audited
    rulings: Sequence[Ruling]
    folder: Path

    @property
    def passed(self) -> bool:
        """Whether every rule holds."""
        return all(ruling.holds for ruling in self.rulings)

    @property
    def tally(self) -> str:
        """How many rules hold, fail and were not measured."""
        return tally(self.rulings)

    def details(self, section: str) -> Mapping[str, Any]:
        """Of a section; empty where it did not run."""
        found = self.audited.outcomes.get(section)
        return {} if found is None else found.details

    def picture(self, name: str) -> str:
        """A data URI of a picture that a section left."""
        path = self.folder / name
        if not path.is_file():
            return ""
        return f"data:image/webp;base64,{base64.b64encode(path.read_bytes()).decode()}"

    @property
    def layers(self) -> list[tuple[float, float, str]]:
        """Of each layer that both have: across and up on the plot, and what to say."""
        import math

        rows = self.details("parity").get("layers", [])
        span, count = -math.log10(FLOOR), max(len(rows) - 1, 1)
        return [
            (
                WIDTH * place / count,
                HEIGHT * min(max(-math.log10(max(error, FLOOR)) / span, 0.0), 1.0),
                f"{name}: {error:.2%}",
            )
            for place, (name, error) in enumerate(rows)
        ]

    @property
    def curves(self) -> Iterator[tuple[str, str, str]]:
        """Points of the insertion and deletion curve of every subject."""
        for name, both in self.details("faithfulness").get("curves", {}).items():
            yield name, _points(both["insertion"]), _points(both["deletion"])

    @property
    def figures(self) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
        """By section: figure, value and meaning."""
        for section in sections():
            outcome = self.audited.outcomes.get(section.name)
            if outcome is not None:
                yield (
                    section.name,
                    [
                        (
                            name,
                            "not measured" if (value := outcome.figures.get(name)) is None else number(value),
                            meaning,
                        )
                        for name, meaning in section.figures.items()
                    ],
                )


def _points(curve: Sequence[float]) -> str:
    last = max(len(curve) - 1, 1)
    return " ".join(f"{WIDTH / 2 * n / last:.1f},{HEIGHT * (1 - value):.1f}" for n, value in enumerate(curve))


def write_page(path: Path, verdict: Verdict, folders: Sequence[Path]) -> Path:
    """Write it; pictures come from the candidates' folders."""
    pairs = zip(verdict.candidates, folders, strict=True)
    parts = [Part(audited, rulings, folder) for (audited, rulings), folder in pairs]
    return save_page(path, "audit.html", verdict=verdict, parts=parts, width=WIDTH, height=HEIGHT)
