"""Textures pixel by pixel: the compiled form against its definition, and the definition against what it promises."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from sightline_kernels.scanline import cpu, reference
from sightline_kernels.scanline.task import Task, draw


def blocks(random: np.random.Generator, size: tuple[int, int], channels: int) -> np.ndarray:
    """A texture of few colours, so that distances tie often."""
    coarse = random.integers(0, 4, (-(-size[0] // 2), -(-size[1] // 2), channels)) * 60
    return coarse.repeat(2, axis=0).repeat(2, axis=1)[: size[0], : size[1]].astype(np.uint8)


# sample, canvas, channels, window, tolerance, order, torus, known: a corner, a middle, a hole around it, nothing
CASES = [
    ((20, 17), (12, 15), 3, 5, 0.1, "scanline", False, "corner"),
    ((20, 17), (12, 15), 3, 5, 0.1, "scanline", True, "corner"),
    ((13, 24), (16, 9), 1, 7, 0.3, "outward", False, "middle"),
    ((13, 24), (16, 9), 1, 7, 0.3, "outward", True, "middle"),
    ((18, 18), (13, 13), 4, 3, 0.0, "outward", False, "hole"),
    ((18, 18), (14, 11), 3, 9, 0.1, "outward", True, "hole"),
    ((25, 19), (11, 14), 2, 5, 2.0, "scanline", False, "nothing"),
    ((25, 19), (6, 5), 3, 11, 0.1, "scanline", True, "nothing"),  # the window is wider than the torus
    ((11, 40), (9, 12), 3, 11, 0.1, "outward", False, "nothing"),  # candidates in one line only
    ((31, 33), (1, 30), 3, 5, 0.1, "scanline", False, "hole"),
    ((20, 17), (6, 6), 3, 5, 1e30, "scanline", False, "nothing"),  # any pixel will do
]


def problem(case: tuple[Any, ...], seed: int) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    size, canvas_size, channels, window, tolerance, order, tileable, kind = case
    random = np.random.default_rng(seed)
    sample = blocks(random, size, channels) if seed % 2 else random.integers(0, 256, (*size, channels), np.uint8)
    canvas = random.integers(0, 256, (*canvas_size, channels), np.uint8)
    known = np.zeros(canvas_size, bool)
    height, width = canvas_size
    if kind == "corner":
        known[:3, :3] = True
    if kind in ("middle", "hole"):
        known[height // 3 : height // 2 + 1, width // 3 : width // 2 + 1] = True
    known = ~known if kind == "hole" else known
    usable = random.random(size) > 0.002 if window < 9 else None
    given = {
        "sample": sample, "window": window, "tolerance": tolerance, "order": order, "tileable": tileable,
        "usable": usable, "seed": seed,
    }  # fmt: skip
    return given, canvas, known


@pytest.mark.parametrize("number", range(len(CASES)))
def test_compiled_is_the_definition(number: int) -> None:
    given, canvas, known = problem(CASES[number], number + 31)
    made = [(canvas.copy(), known.copy()) for _ in range(3)]
    sources = [
        form.synthesise(canvas=picture, known=mask, threads=threads, **given)
        for form, (picture, mask), threads in zip((reference, cpu, cpu), made, (None, 1, 2), strict=True)
    ]
    for (picture, mask), source in zip(made, sources, strict=True):
        assert mask.all()
        np.testing.assert_array_equal(picture, made[0][0])
        np.testing.assert_array_equal(source, sources[0])
    np.testing.assert_array_equal(made[0][0][known], canvas[known])
    colours = given["sample"].reshape(-1, canvas.shape[2])
    np.testing.assert_array_equal(made[0][0][~known], colours[sources[0][~known]])
    assert (sources[0][known] == -1).all()


@pytest.mark.parametrize("tileable", [False, True])
@pytest.mark.parametrize("order", ["scanline", "outward"])
def test_a_periodic_sample_goes_on(order: Any, tileable: bool) -> None:
    """Any pixel of a chequer of 4 x 3 colours is settled by its neighbours: the texture goes on without a fault."""
    cells = np.random.default_rng(5).permutation(12).reshape(4, 3) * 20
    expected = np.tile(cells, (6, 8))[..., None].astype(np.uint8)  # (24, 24, 1): whole periods, so it tiles too
    canvas, known = np.zeros_like(expected), np.zeros((24, 24), bool)
    canvas[:7, :7], known[:7, :7] = expected[:7, :7], True
    cpu.synthesise(expected[:17, :15], canvas, known, window=7, order=order, tileable=tileable)
    np.testing.assert_array_equal(canvas, expected)


def test_a_pixel_is_drawn_evenly_from_what_is_near_enough() -> None:
    """One known neighbour; two windows of the sample match it, one is just within the tolerance, one just beyond."""
    sample = np.zeros((3, 40, 1), np.uint8)
    sample[1, [4, 12, 20, 28], 0] = 104, 96, 105, 106  # distances 16, 16, 25, 36 to the known 100
    sample[1, [5, 13, 21, 29], 0] = 1, 2, 3, 4
    counts = np.zeros(5, int)
    for seed in range(3000):
        canvas, known = np.array([[[100], [0]]], np.uint8), np.array([[True, False]])
        cpu.synthesise(sample, canvas, known, window=3, tolerance=0.57, seed=seed, threads=1)  # 16 * 1.57 = 25.12
        counts[canvas[0, 1, 0]] += 1
    assert counts[[0, 4]].tolist() == [0, 0]
    np.testing.assert_allclose(counts[1:4] / 3000, 1 / 3, atol=5 * math.sqrt(2 / 9 / 3000))


def test_weights_are_a_bell_and_sums_fit_into_31_bits() -> None:
    for window, channels in ((3, 1), (11, 3), (63, 4)):
        sample = np.zeros((64, 64, channels), np.uint8)
        task = Task.of(sample, sample.copy(), np.ones((64, 64), bool), window, 0.1, 0, "scanline", False, None)
        places = np.arange(window) - window // 2
        bell = np.exp(-(np.square(places)[:, None] + np.square(places)) / 2 / (window / 6.4) ** 2)
        bell[window // 2, window // 2] = 0
        largest = int(task.weights.sum(dtype=np.int64)) * 255**2 * channels
        assert 0.8 * 2**31 < largest < 2**31
        unit = largest / 2**31 / task.weights.sum(dtype=np.float64)  # of a weight, as a share of their sum
        np.testing.assert_allclose(task.weights * unit, bell / bell.sum(), atol=1.001 * unit)


@pytest.mark.parametrize("tileable", [False, True])
def test_outward_goes_layer_by_layer(tileable: bool) -> None:
    known = np.zeros((9, 14), bool)
    known[4, 1] = True
    task = Task.of(
        np.zeros((9, 9, 1), np.uint8), np.zeros((9, 14, 1), np.uint8), known, 5, 0.1, 0, "outward", tileable, None
    )
    lines, columns = np.divmod(task.order, 14)
    across = np.abs(columns - 1)
    across = np.minimum(across, 14 - across) if tileable else across
    down = np.abs(lines - 4)
    layers = np.maximum(np.minimum(down, 9 - down) if tileable else down, across)
    assert sorted(task.order) == sorted(set(range(126)) - {4 * 14 + 1})
    assert (np.diff(layers) >= 0).all()


@pytest.mark.parametrize(("order", "tileable"), [("scanline", False), ("scanline", True), ("outward", False)])
def test_what_is_made_at_once_does_not_see_each_other(order: str, tileable: bool) -> None:
    height, width, reach = 19, 26, 2
    known = np.zeros((height, width), bool)
    known[8:10, 7:9] = True
    task = Task.of(
        np.zeros((9, 9, 1), np.uint8), np.zeros((height, width, 1), np.uint8), known, 5, 0.1, 0, order, tileable, None
    )
    pixels, starts = cpu.fronts(task)
    assert sorted(pixels) == sorted(task.order)
    when = np.full(known.shape, -1)
    for front, (start, stop) in enumerate(pairwise(starts)):
        when.ravel()[pixels[start:stop]] = front
        assert stop > start
    for pixel in task.order:
        y, x = divmod(int(pixel), width)
        for line in range(y - reach, y + reach + 1):
            for column in range(x - reach, x + reach + 1):
                there = line % height, column % width
                if (there == (line, column) or tileable) and there != (y, x):
                    earlier = task.ranks[there] < task.ranks[y, x]
                    assert when[there] < when[y, x] if earlier else when[there] > when[y, x]
    if order == "scanline" and not tileable:  # a line is half a window and one pixel behind the line above
        assert when.max() <= width + (reach + 1) * height


@pytest.mark.parametrize("form", [reference, cpu])
def test_stopped_work_is_kept(form: Any) -> None:
    sample = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    canvas, known = np.zeros((60, 60, 3), np.uint8), np.zeros((60, 60), bool)
    told: list[tuple[int, int]] = []

    def tell(done: int, total: int) -> bool:
        told.append((done, total))
        return False

    sources = form.synthesise(sample, canvas, known, window=7, tell=tell)
    ((done, total),) = told
    assert total == 3600
    assert 0 < done == known.sum() < total
    np.testing.assert_array_equal(canvas[known], sample.reshape(-1, 3)[sources[known]])
    assert not canvas[~known].any()


def test_nothing_to_do() -> None:
    canvas = np.ones((4, 4, 3), np.uint8)
    for form in (reference, cpu):
        assert (form.synthesise(np.ones((5, 5, 3), np.uint8), canvas, np.ones((4, 4), bool), window=3) == -1).all()


def test_draws_are_even() -> None:
    drawn = draw(3, np.arange(40_000)) / 2.0**32
    np.testing.assert_allclose(np.histogram(drawn, 10, (0, 1))[0], 4000, atol=5 * 60)
    assert not np.array_equal(draw(4, np.arange(9)), draw(3, np.arange(9)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": 4}, "odd side"),
        ({"window": 65}, "odd side of 3 to 63"),
        ({"window": 11}, "does not fit"),
        ({"sample": np.zeros((9, 9, 3), np.float32)}, "uint8; got float32"),
        ({"sample": np.zeros((9, 9, 1), np.uint8)}, "1 channels and the canvas 3"),
        ({"known": np.zeros((4, 5), bool)}, "known is boolean"),
        ({"usable": np.zeros((9, 9), bool)}, "no pixel to copy"),
        ({"order": "spiral"}, "none of scanline, outward"),
        ({"tolerance": math.nan}, "finite"),
        ({"seed": -1}, "not negative"),
    ],
)
def test_bad_input(changes: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "sample": np.zeros((9, 9, 3), np.uint8), "canvas": np.zeros((4, 4, 3), np.uint8),
        "known": np.zeros((4, 4), bool), "window": 5,
    }  # fmt: skip
    for form in (reference, cpu):
        with pytest.raises(ValueError, match=message):
            form.synthesise(**(given | changes))
