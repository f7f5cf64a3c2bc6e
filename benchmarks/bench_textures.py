"""Textures and Gram matrices against what a user would write: pixels per second, matrices per second."""

from __future__ import annotations

from functools import partial
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sightline_kernels.gram import cpu as gram
from sightline_kernels.quilting import cpu as quilting
from sightline_kernels.quilting import reference as quilting_reference
from sightline_kernels.scanline import cpu as scanline
from sightline_kernels.scanline import reference as scanline_reference

Bytes = NDArray[np.uint8]
SIDE, SMALL = 128, 14  # of what we make, and of what the slow ones make: their time is the same for every pixel
SEED = 5  # side of the piece that textures begin with


def wall(side: int) -> Bytes:
    """(side, side, 3) bricks of 16 x 8 pixels in many colours, and noise."""
    random = np.random.default_rng(0)
    lines, columns = np.indices((side, side))
    course = lines // 8
    brick = (columns + course % 2 * 8) // 16
    joint = (lines % 8 == 7) | ((columns + course % 2 * 8) % 16 == 15)
    tints = np.array([150, 70, 50]) + random.normal(0, 18, (side, side, 3))
    colours = np.where(joint[..., None], (190, 185, 175), tints[course, brick])
    return (colours + random.normal(0, 6, colours.shape)).clip(0, 255).astype(np.uint8)


def begun(sample: Bytes, side: int) -> tuple[Bytes, NDArray[np.bool_]]:
    """A canvas and what is known of it: a piece of the sample in the upper left corner."""
    canvas, known = np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.bool_)
    canvas[:SEED, :SEED], known[:SEED, :SEED] = sample[10 : 10 + SEED, 20 : 20 + SEED], True
    return canvas, known


def ours(sample: Bytes, window: int, threads: int | None, side: int, form: Any = scanline) -> Bytes:
    canvas, known = begun(sample, side)
    form.synthesise(sample, canvas, known, window=window, threads=threads)
    return canvas


def bell(window: int) -> NDArray[np.float32]:
    steps = np.square(np.arange(window) - window // 2)
    return np.exp(-(steps[:, None] + steps) / (2 * (window / 6.4) ** 2)).astype(np.float32)


def by_numpy(sample: Bytes, window: int) -> Bytes:
    """As one would write it: all windows of the sample laid out once, one vectorised difference for each pixel."""
    windows = sliding_window_view(sample.astype(np.float32), (window, window), axis=(0, 1))
    windows = np.ascontiguousarray(windows).reshape(-1, 3, window, window)
    return pixel_by_pixel(
        sample, window, lambda seen, weights: (np.square(windows - seen) * weights).sum(axis=(1, 2, 3))
    )


def by_opencv(sample: Bytes, window: int) -> Bytes:
    """With ``matchTemplate`` and a mask, which searches by Fourier transforms."""
    image = sample.astype(np.float32)

    def distances(seen: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
        template = np.ascontiguousarray(seen.transpose(1, 2, 0))
        mask = np.sqrt(weights)[..., None].repeat(3, axis=2)  # it squares the masked difference
        return cv2.matchTemplate(image, template, cv2.TM_SQDIFF, mask=mask).ravel()

    return pixel_by_pixel(sample, window, distances)


def pixel_by_pixel(sample: Bytes, window: int, distances: Any) -> Bytes:
    """Efros and Leung's loop in scanline order, distances by one of the ways."""
    reach, weights, random = window // 2, bell(window), np.random.default_rng(0)
    canvas, known = begun(sample, SMALL)
    canvas, known = np.pad(canvas, ((reach, reach), (reach, reach), (0, 0))), np.pad(known, reach)
    columns = sample.shape[1] - window + 1
    for y in range(reach, SMALL + reach):
        for x in range(reach, SMALL + reach):
            if known[y, x]:
                continue
            around = slice(y - reach, y + reach + 1), slice(x - reach, x + reach + 1)
            found = distances(canvas[around].transpose(2, 0, 1).astype(np.float32), weights * known[around])
            near = np.flatnonzero(found <= found.min() + 0.1 * abs(found.min()))  # transforms round below zero
            row, column = divmod(int(random.choice(near)), columns)
            canvas[y, x], known[y, x] = sample[row + reach, column + reach], True
    return canvas[reach:-reach, reach:-reach]


@pytest.mark.parametrize("window", [11, 21])
def test_scanline(window: int, race: Any, session: Any) -> None:
    cv2.setNumThreads(session.threads)
    sample = wall(64)
    np.testing.assert_array_equal(
        ours(sample, window, None, SMALL), ours(sample, window, None, SMALL, scanline_reference)
    )
    few, many = SMALL * SMALL - SEED * SEED, SIDE * SIDE - SEED * SEED
    peers = {
        "our NumPy reference": partial(ours, sample, window, None, SMALL, scanline_reference),
        "NumPy": partial(by_numpy, sample, window),
        "OpenCV matchTemplate": partial(by_opencv, sample, window),
    }
    race(
        partial(ours, sample, window, session.threads, SIDE), peers,
        case=f"scanline, {SIDE}² from 64² in colour, window {window}", metric="throughput", unit="pixels/s",
        work={"sightline": many, **dict.fromkeys(peers, few)},
    )  # fmt: skip


def test_scanline_threads(race: Any, session: Any) -> None:
    sample = wall(64)
    race(
        partial(ours, sample, 11, session.threads, SIDE),
        {"sightline, 1 thread": partial(ours, sample, 11, 1, SIDE)},
        case=f"scanline, {SIDE}² from 64² in colour, window 11, threads", metric="throughput", unit="pixels/s",
        work=SIDE * SIDE - SEED * SEED,
    )  # fmt: skip


def test_quilting(race: Any, session: Any) -> None:
    sample, small = wall(96), (72, 72)
    given: dict[str, Any] = {"block": 24, "overlap": 4}
    np.testing.assert_array_equal(
        quilting.quilt(sample, small, **given), quilting_reference.quilt(sample, small, **given)
    )
    race(
        partial(quilting.quilt, sample, (512, 512), threads=session.threads, **given),
        {"our NumPy reference": partial(quilting_reference.quilt, sample, small, **given)},
        case="quilting, 512² from 96² in colour, blocks of 24", metric="throughput", unit="pixels/s",
        work={"sightline": 512 * 512, "our NumPy reference": 72 * 72},
    )  # fmt: skip


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("positions", [196, 784, 3136, 12544])
@pytest.mark.parametrize("channels", [64, 128, 256, 512])
def test_gram(channels: int, positions: int, batch: int, race: Any, session: Any) -> None:
    maps = np.random.default_rng(0).random((batch, channels, positions), dtype=np.float32)
    tensor = torch.from_numpy(maps)
    torch.set_num_threads(session.threads)
    # calls of a third of a second or so: threads of the subject before spin for a while beside a shorter one
    once = 5e10 / (2 * batch * channels**2 * positions)
    calls = max(1, round(min(10_000.0, once)))
    peers = {
        "numpy.matmul": partial(repeated, calls, lambda: np.matmul(maps, maps.transpose(0, 2, 1))),
        "torch.bmm": partial(repeated, calls, lambda: torch.bmm(tensor, tensor.transpose(1, 2))),
    }
    np.testing.assert_allclose(gram.gram(maps, per="none"), np.matmul(maps, maps.transpose(0, 2, 1)), rtol=2e-5)
    race(
        partial(repeated, calls, lambda: gram.gram(maps, per="none", threads=session.threads)), peers,
        case=f"gram, {batch} x {channels} channels x {positions:,} positions", metric="throughput", unit="matrices/s",
        work=calls * batch,
    )  # fmt: skip


def repeated(count: int, call: Any) -> None:
    for _ in range(count):
        call()
