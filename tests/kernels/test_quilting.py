"""Textures block by block: the compiled form against its definition, and the definition against what it promises."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from sightline_kernels.quilting import cpu, reference
from sightline_kernels.quilting.task import Task

# sample, texture, channels, block, overlap, tolerance, torus
CASES = [
    ((20, 17), (31, 26), 3, 8, 3, 0.1, False),
    ((20, 17), (31, 26), 3, 8, 3, 0.1, True),
    ((13, 24), (9, 40), 1, 5, None, 0.5, True),
    ((13, 24), (5, 3), 4, 7, 2, 0.1, False),  # less than a block
    ((12, 12), (30, 29), 2, 12, 6, 0.0, True),  # one candidate only
    ((19, 30), (11, 13), 3, 10, 5, 2.0, True),  # seams of both sides meet
    ((40, 33), (1, 60), 3, 2, 1, 0.1, False),
]


def problem(case: tuple[Any, ...], seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    size, texture, channels, block, overlap, tolerance, tileable = case
    random = np.random.default_rng(seed)
    sample = random.integers(0, 3 if seed % 2 else 256, (*size, channels)).astype(np.uint8)  # few colours: ties
    usable = random.random(size) > 0.004 if block < 8 else None
    return sample, {
        "size": texture, "block": block, "overlap": overlap, "tolerance": tolerance, "tileable": tileable,
        "usable": usable, "seed": seed,
    }  # fmt: skip


@pytest.mark.parametrize("seed", [4, 5])
@pytest.mark.parametrize("case", CASES)
def test_compiled_is_the_definition(case: tuple[Any, ...], seed: int) -> None:
    sample, given = problem(case, seed)
    expected = reference.quilt(sample, **given)
    assert expected.shape == given["size"]
    for threads in (1, 2):
        np.testing.assert_array_equal(cpu.quilt(sample, threads=threads, **given), expected)
    usable = np.ones(sample.shape[:2], bool) if given["usable"] is None else given["usable"]
    assert usable.ravel()[expected].all()


@pytest.mark.parametrize("seed", range(3))
def test_a_seam_is_the_least_of_all_paths(seed: int) -> None:
    """All 4 columns ** 5 lines of paths, listed."""
    errors = np.random.default_rng(seed).integers(0, 6, (5, 4))
    paths = np.array([path for path in itertools.product(range(4), repeat=5) if np.abs(np.diff(path)).max() <= 1])
    costs = errors[np.arange(5), paths].sum(axis=1)
    found = reference.seam(errors)
    assert np.abs(np.diff(found)).max() <= 1
    assert errors[np.arange(5), found].sum() == costs.min()


@pytest.mark.parametrize("tileable", [False, True])
def test_a_periodic_sample_goes_on(tileable: bool) -> None:
    """A chequer of 4 x 3 colours, of which the overlaps show more than a period, goes on without a fault."""
    cells = np.random.default_rng(5).permutation(12).reshape(4, 3) * 20
    pattern = np.tile(cells, (10, 12))[..., None].astype(np.uint8)  # (40, 36, 1): whole periods, so it tiles too
    sample = pattern[:30, :31]
    made = sample.reshape(-1)[cpu.quilt(sample, (40, 36), block=12, overlap=5, tileable=tileable)]
    assert any(
        np.array_equal(np.roll(pattern[..., 0], (dy, dx), (0, 1)), made)
        for dy, dx in itertools.product(range(4), range(3))
    )


def mismatch(sample: np.ndarray, sources: np.ndarray) -> float:
    """Mean over neighbours of how far a pixel is from what the sample has beside its neighbour's source."""
    height, width = sample.shape[:2]
    made = sample.reshape(-1, sample.shape[2])[sources].astype(np.float64)
    rows, columns = np.divmod(sources, width)
    found: list[np.ndarray] = []
    for down, right in ((1, 0), (0, 1)):
        lines, across = rows[: len(rows) - down, : made.shape[1] - right], columns[: len(rows) - down]
        across = across[:, : made.shape[1] - right]
        there = (lines + down < height) & (across + right < width)
        wanted = sample[lines[there] + down, across[there] + right].astype(np.float64)
        found.append(np.square(made[down:, right:][there] - wanted).sum(axis=1))
    return float(np.concatenate(found).mean())


def smooth_texture(seed: int) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((64, 72, 3)), (2, 2, 0), mode="wrap")
    return (128 + 40 * noise / noise.std()).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("seed", range(3))
def test_seams_show_less_than_random_blocks(seed: int) -> None:
    sample = smooth_texture(seed)
    random = np.random.default_rng(seed)
    tiled = np.zeros((108, 126), np.int64)
    numbers = np.arange(64 * 72).reshape(64, 72)
    for y, x in itertools.product(range(0, 108, 18), range(0, 126, 18)):
        row, column = random.integers(0, 64 - 18), random.integers(0, 72 - 18)
        tiled[y : y + 18, x : x + 18] = numbers[row : row + 18, column : column + 18]
    made = cpu.quilt(sample, (108, 126), block=22, overlap=6, seed=seed)
    assert mismatch(sample, made) < mismatch(sample, tiled) / 1.5


@pytest.mark.parametrize("seed", range(2))
def test_a_torus_has_no_edge(seed: int) -> None:
    """Pixels on both sides of the edges are alike in a torus only."""
    sample = smooth_texture(seed)

    def jump(tileable: bool) -> float:
        made = cpu.quilt(sample, (80, 90), block=22, overlap=6, seed=seed, tileable=tileable)
        colours = sample.reshape(-1, 3)[made].astype(np.float64)
        return sum(np.square(colours.take(-1, axis) - colours.take(0, axis)).mean() for axis in (0, 1))

    assert jump(True) < jump(False) / 3


def test_blocks_do_not_merely_go_on() -> None:
    """No block is where its left or upper neighbour's would continue, since other blocks can be had."""
    sample = smooth_texture(9)
    sources = cpu.quilt(sample, (100, 100), block=16, overlap=4)
    task = Task.of(sample, (100, 100), 16, 4, 0.1, 0, False, None)
    middles = sources[np.ix_(np.array(task.starts[0]) + 8, np.array(task.starts[1]) + 8)]
    rows, columns = np.divmod(middles, 72)
    for axis, starts in enumerate(task.starts):
        gaps = np.diff(starts) if axis == 1 else np.diff(starts)[:, None]
        down, right = np.diff(rows, axis=axis), np.diff(columns, axis=axis)
        apart = (np.abs(down - gaps), np.abs(right)) if axis == 0 else (np.abs(down), np.abs(right - gaps))
        assert (np.maximum(*apart) >= 4).all()


def test_every_block_is_drawn_evenly() -> None:
    """The first block sees nothing: each of 4 x 3 candidates is as likely."""
    sample = np.zeros((11, 10, 1), np.uint8)
    first = [cpu.quilt(sample, (8, 8), block=8, seed=seed)[0, 0] for seed in range(2400)]
    counts = np.unique_counts(np.array(first)).counts
    assert len(counts) == 12
    np.testing.assert_allclose(counts / 2400, 1 / 12, atol=5 * math.sqrt(1 / 12 / 2400))


@pytest.mark.parametrize("form", [reference, cpu])
def test_stopped_work_is_kept(form: Any) -> None:
    told: list[tuple[int, int]] = []

    def tell(done: int, total: int) -> bool:
        told.append((done, total))
        return done < 3

    sources = form.quilt(np.zeros((20, 20, 1), np.uint8), (35, 35), block=10, overlap=5, tell=tell)
    assert told == [(1, 36), (2, 36), (3, 36)]
    assert (sources[:10, :20] >= 0).all()
    assert (sources[10:] == -1).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block": 1}, "side of 2 to 256"),
        ({"block": 10}, "does not fit"),
        ({"overlap": 4}, "overlap by 1 to 3; got 4"),
        ({"overlap": 0}, "overlap by 1 to 3; got 0"),
        ({"sample": np.zeros((9, 9, 3), np.float32)}, "uint8; got float32"),
        ({"sample": np.zeros((9, 9), np.uint8)}, "height, width, channels"),
        ({"usable": np.zeros((9, 9), bool)}, "none to copy"),
        ({"usable": np.zeros((9, 8), bool)}, "usable is boolean"),
        ({"size": (5, 9), "tileable": True}, "smaller than a block"),
        ({"size": (0, 9)}, "smaller than a pixel"),
        ({"tolerance": math.nan}, "finite"),
        ({"seed": -1}, "not negative"),
    ],
)
def test_bad_input(changes: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"sample": np.zeros((9, 9, 3), np.uint8), "size": (12, 12), "block": 6}
    for form in (reference, cpu):
        with pytest.raises(ValueError, match=message):
            form.quilt(**(given | changes))
