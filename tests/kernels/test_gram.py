"""Gram matrices: every form against sums written out in float64, and what the definition promises."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.gpu_on_cpu import numpy_as_cupy
from sightline_kernels.gram import cpu, cuda, reference

FORMS = [reference, cpu, cuda]
UNIT = 2.0**-24  # of float32


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy in CuPy's place."""
    monkeypatch.setitem(sys.modules, "cupy", numpy_as_cupy())


def numbers(random: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Positive on the whole, as maps behind a rectifier are; bfloat16 where the package for it is there."""
    kind = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    return (random.standard_normal(shape) + 0.5).astype(kind)


def defined(maps: np.ndarray, divisor: float) -> tuple[np.ndarray, np.ndarray]:
    """Sums of products in float64, and what their rounding in float32 may be: 1,024 / 4 additions of a register."""
    wide = maps.astype(np.float64).reshape(*maps.shape[:2], -1)
    sums = np.stack([[[(a * b).sum() for b in one] for a in one] for one in wide]) / divisor
    sizes = np.stack([[[np.abs(a * b).sum() for b in one] for a in one] for one in wide]) / divisor
    return sums, 260 * UNIT * sizes + 2.0**-140


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    ("shape", "per", "divisor"),
    [
        ((2, 5, 7, 9), "position", 63), ((1, 33, 1025), "element", 33 * 1025), ((3, 1, 1), "none", 1),
        ((1, 37, 40, 3), "none", 1), ((2, 6, 2049), "position", 2049),
    ],
)  # fmt: skip
def test_sums_of_products(form: Any, dtype: str, shape: tuple[int, ...], per: Any, divisor: float) -> None:
    maps = numbers(np.random.default_rng(sum(shape)), shape, dtype)
    expected, error = defined(maps, divisor)
    found = form.gram(maps, per=per)
    assert found.dtype == np.float32
    np.testing.assert_array_less(np.abs(found - expected), error)
    np.testing.assert_array_equal(found, found.transpose(0, 2, 1))


@pytest.mark.parametrize("channels", [1, 3, 64, 66, 127, 130, 200])
def test_every_pair_of_channels_is_there(channels: int) -> None:
    """Channel c is active at position c alone: the matrix is diagonal, and whole numbers are exact."""
    maps = np.zeros((2, channels, 2 * channels + 1), np.float32)
    maps[:, np.arange(channels), np.arange(channels)] = np.arange(1, channels + 1)
    maps[1, :, -1] = 1  # and all at the last
    expected = np.diag(np.arange(1.0, channels + 1) ** 2) + np.array([0, 1])[:, None, None]
    for form in FORMS:
        np.testing.assert_array_equal(form.gram(maps, per="none"), expected)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_pieces_give_the_bits_of_the_whole(data: st.DataObject) -> None:
    batch, channels = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 70))
    positions, seed = data.draw(st.integers(0, 3500)), data.draw(st.integers(0, 2**31))
    cuts = sorted(data.draw(st.lists(st.integers(0, positions), max_size=5)))
    maps = np.random.default_rng(seed).standard_normal((batch, channels, positions), dtype=np.float32)
    maps = maps.astype(data.draw(st.sampled_from([np.float32, np.float16])))
    per = data.draw(st.sampled_from(["none", "position", "element"]))
    for form in (cpu, cuda):
        whole = form.gram(maps, per=per)
        np.testing.assert_array_equal(form.gram_of_chunks(np.split(maps, cuts, axis=2), per=per), whole)
        for one in range(batch):
            np.testing.assert_array_equal(form.gram(maps[one : one + 1], per=per)[0], whole[one])


def test_threads_do_not_change_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "ALONE", 0)
    for channels in (50, 131):
        maps = np.random.default_rng(channels).standard_normal((3, channels, 1500), dtype=np.float32)
        np.testing.assert_array_equal(cpu.gram(maps, threads=2), cpu.gram(maps, threads=1))


def test_strides_do_not_matter() -> None:
    maps = np.random.default_rng(1).standard_normal((2, 30, 9, 40), dtype=np.float32)
    turned = np.asfortranarray(maps)[:, ::2, :, 3:]
    np.testing.assert_array_equal(cpu.gram(turned), cpu.gram(np.ascontiguousarray(turned)))


@pytest.mark.parametrize("form", FORMS)
def test_blind_to_place(form: Any) -> None:
    """Shuffled positions: the same style, another content. Smooth maps, as those of a photograph are."""
    random = np.random.default_rng(7)
    maps = random.random((1, 48, 14, 14)).repeat(4, axis=2).repeat(4, axis=3).astype(np.float32)
    shuffled = maps.reshape(1, 48, -1)[:, :, random.permutation(56 * 56)]
    before, after = form.gram(maps), form.gram(shuffled)
    assert np.linalg.norm(after - before) < 1e-6 * np.linalg.norm(before)
    content = np.square(maps.reshape(1, 48, -1) - shuffled).mean()
    assert content > 0.5 * maps.var()


@pytest.mark.parametrize("form", FORMS)
def test_what_is_not_a_number_stays_in_its_channel(form: Any) -> None:
    maps = np.ones((2, 6, 40), np.float32)
    maps[1, 2, 39], maps[0, 5, 0] = np.nan, np.inf
    with np.errstate(invalid="ignore"):  # a GPU does not warn, the one in its place would
        found = form.gram(maps, per="none")
    expected = np.full((2, 6, 6), 40.0)
    expected[1, 2], expected[1, :, 2], expected[0, 5], expected[0, :, 5] = np.nan, np.nan, np.inf, np.inf
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("form", FORMS)
def test_empty(form: Any) -> None:
    for per in ("none", "position", "element"):
        np.testing.assert_array_equal(form.gram(np.ones((2, 3, 0), np.float32), per=per), np.zeros((2, 3, 3)))
        assert form.gram(np.ones((0, 3, 5, 5), np.float16), per=per).shape == (0, 3, 3)


@pytest.mark.parametrize("form", FORMS)
def test_bad_input(form: Any) -> None:
    for maps, message in (
        (np.ones((3, 4), np.float32), "got .3, 4."),
        (np.ones((1, 0, 4), np.float32), "C > 0"),
        (np.ones((1, 2, 4)), "got float64"),
    ):
        with pytest.raises(ValueError, match=message):
            form.gram(maps)
    with pytest.raises(ValueError, match="none, position, element"):
        form.gram(np.ones((1, 2, 4), np.float32), per="pixel")
    with pytest.raises(ValueError, match=r"piece|concatenate"):
        form.gram_of_chunks([])
    with pytest.raises(ValueError, match=r"follows pieces|must match"):
        form.gram_of_chunks([np.ones((1, 2, 4), np.float32), np.ones((1, 3, 4), np.float32)])
