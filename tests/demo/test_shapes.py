"""The outlines, against areas and distances from schoolbook geometry."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sightline.demo import shapes
from sightline.demo.shapes import LABELS, SHAPES, Distance, measure

TAU = 2 * math.pi


def lens(distance: float, first: float, second: float) -> float:
    """Area that two circles share."""
    from_first = (distance**2 + first**2 - second**2) / (2 * distance)
    from_second = distance - from_first
    return sum(
        radius**2 * math.acos(chord / radius) - chord * math.sqrt(radius**2 - chord**2)
        for radius, chord in ((first, from_first), (second, from_second))
    )


AREAS = {
    "disc": math.pi,
    "ring": math.pi * (1 - 0.56**2),
    "triangle": 3 * math.sqrt(3) / 4,
    "square": 1.4**2,
    "star": 10 * 0.5 * 0.42 * math.sin(TAU / 10),
    "cross": 2 * (1.88 * 0.6) - 0.6**2,
    "crescent": math.pi - lens(0.5, 1.0, 0.8),
    "heart": 0.905096**2 + math.pi * 0.452548**2,
    "leaf": lens(1.5, 1.25, 1.25),
    "arrow": 0.72 * 0.88 + 0.52 * 1.08,
}


@pytest.mark.parametrize(("name", "area"), AREAS.items())
def test_areas_are_those_of_geometry(name: str, area: float) -> None:
    # Counted on a grid of 1/128: a side that runs along the grid can be off by half a step.
    assert measure(getattr(shapes, name))[0] == pytest.approx(area, rel=0.012)


@pytest.mark.parametrize("shape", SHAPES, ids=LABELS)
def test_half_a_unit_of_distance_is_never_overstated(shape: Distance) -> None:
    """A signed distance never changes faster than the place does, and both signs occur."""
    rng = np.random.default_rng(5)
    x, y = rng.uniform(-1.3, 1.3, (2, 20_000)).astype(np.float32)
    angle, step = rng.uniform(0, TAU, 20_000), rng.uniform(0.01, 0.5, 20_000)
    moved = shape((x + step * np.cos(angle)).astype(np.float32), (y + step * np.sin(angle)).astype(np.float32))
    assert np.all(np.abs(moved - shape(x, y)) <= step + 1e-5)
    assert 0.1 < np.mean(moved <= 0) < 0.6


@pytest.mark.parametrize("shape", SHAPES, ids=LABELS)
def test_the_reach_is_the_farthest_point(shape: Distance) -> None:
    reach = measure(shape)[1]
    angle = np.linspace(0, TAU, 4001)
    inside = [
        bool(np.any(shape((r * np.cos(angle)).astype(np.float32), (r * np.sin(angle)).astype(np.float32)) <= 0))
        for r in (reach - 0.02, reach + 0.02)
    ]
    assert inside == [True, False]


def test_a_polygon_knows_its_inside_and_its_nearest_side() -> None:
    """A right-angled 3-4-5 triangle, whose distances can be had in the head."""
    corners = [(0.0, 0.0), (4.0, 0.0), (0.0, 3.0)]
    points = np.array([(1, 1), (2, -1), (-1, -1), (4, 3), (7, 0), (0.5, 0.1)], np.float32)
    expected = [-1.0, 1.0, math.sqrt(2), 12 / 5, 3.0, -0.1]
    assert shapes.polygon(points[:, 0], points[:, 1], corners) == pytest.approx(expected, abs=1e-6)
    assert shapes.polygon(points[:, 0], points[:, 1], corners[::-1]) == pytest.approx(expected, abs=1e-6)
