"""The CUDA form without a GPU: its source compiles for what it is meant for, and is right when a CPU runs it."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from kernels.blas_on_cpu import with_blas
from kernels.gpu_on_cpu import compiles, stand_in
from sightline_kernels.knn import cuda, reference


@pytest.mark.parametrize("chip", ["sm_80", "sm_90"])
def test_the_source_compiles(chip):
    compiles(cuda.SOURCE, chip)


@pytest.fixture(scope="module")
def cupy(tmp_path_factory):
    """The source's functions, run thread after thread."""
    return stand_in(cuda.SOURCE, tmp_path_factory.mktemp("cuda"))


def products(device, queries, rows, screen):
    """What tensor cores make of them at worst: of TF32, 10 bits, the others cut off."""
    if screen == "tf32":
        queries, rows = ((one.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32) for one in (queries, rows))
    return queries @ rows.T


@pytest.fixture
def small(cupy, monkeypatch):
    """Little room, so that every path is walked."""
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cuda, "_products", products)
    monkeypatch.setattr(cuda, "ROOM", 16)
    monkeypatch.setattr(cuda, "SAMPLE", 25)
    monkeypatch.setattr(cuda, "PRODUCTS", 3 * 40)


def problem(seed):
    """A bank with equal rows, a row of zeros and a mask; queries that are a row, or zero."""
    random = np.random.default_rng(seed)
    bank = np.round(random.standard_normal((90, 21)) * 2).astype(np.float16 if seed else np.float32)
    bank[40:60] = bank[3]
    bank[7] = 0
    asked = random.standard_normal((3, 21)).astype(np.float32)
    asked[0], asked[2] = bank[3], 0
    return bank, asked, random.random(90) < 0.8


@pytest.mark.parametrize("metric", ["l2", "cosine", "inner_product"])
@pytest.mark.parametrize("seed", range(2))
def test_the_logic_is_the_definitions(metric, seed, small):
    bank, asked, mask = problem(seed)
    expected = reference.search(bank, asked, 12, metric=metric, mask=mask)
    found = cuda.search(np.split(bank, [30, 31]), asked, 12, metric=metric, mask=mask)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])
    bank[50, 2] = np.nan
    mask[50] = True
    with pytest.raises(ValueError, match="Row 50 holds"):
        cuda.search(bank, asked, 12, metric=metric, mask=mask)


@pytest.mark.parametrize("metric", ["l2", "cosine", "inner_product"])
@pytest.mark.parametrize("screen", ["tf32", "fp32"])
def test_a_bank_that_stays_answers_again(metric, screen, small):
    random = np.random.default_rng(9)
    rows = (random.standard_normal((200, 33)) + 3).astype(np.float32)  # far from the origin: products err most
    bank = cuda.Bank(rows, metric=metric, screen=screen)
    for k, count in ((1, 3), (10, 2), (60, 1)):
        asked = (rows[random.integers(0, 200, count)] + random.standard_normal((count, 33)) * 0.1).astype(np.float32)
        expected, found = reference.search(rows, asked, k, metric=metric), bank.search(asked, k)
        np.testing.assert_array_equal(found[1], expected[1])
        np.testing.assert_array_equal(found[0], expected[0])


def test_what_leaves_no_room_is_halved_and_grows_again(cupy, monkeypatch):
    """Rows that come ever nearer, so that the first limit leaves out none of them, and then far ones."""
    spans, run = [], cuda._Pass._run
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cuda, "_products", products)
    monkeypatch.setattr(cuda, "ROOM", 16)
    monkeypatch.setattr(cuda, "SAMPLE", 8)

    def noted(self, kernel, pairs, *given):
        spans.extend([int(given[-2] - given[-3])] if kernel is self.select else [])
        run(self, kernel, pairs, *given)

    monkeypatch.setattr(cuda._Pass, "_run", noted)
    rows = np.concatenate([np.linspace(9, 1, 64), np.full(192, 20)])[:, None].astype(np.float32)
    asked = np.zeros((1, 1), np.float32)
    expected, found = reference.search(rows, asked, 4), cuda.Bank(rows, screen="fp32").search(asked, 4)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])
    assert spans[:4] == [256, 128, 64, 32]
    assert spans[-1] > 64


@pytest.mark.parametrize("metric", ["l2", "cosine", "inner_product"])
def test_few_queries_take_a_bank_that_stays_in_one_go(metric, cupy, monkeypatch):
    """However often rows travelled: one matrix of products, and of each kernel one launch behind the first limit."""
    launched, run = [], cuda._Pass._run
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cuda, "_products", lambda *given: launched.append("products") or products(*given))
    monkeypatch.setattr(
        cuda._Pass, "_run", lambda self, kernel, *given: launched.append(kernel) or run(self, kernel, *given)
    )
    monkeypatch.setattr(cuda, "VALUES", 21 * 30)
    rows, asked, mask = problem(1)
    bank = cuda.Bank(np.split(rows, [40]), metric=metric, mask=mask)
    expected, found = reference.search(rows, asked, 5, metric=metric, mask=mask), bank.search(asked, 5)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])
    assert launched.count("products") == 1
    assert len(launched) == 1 + 2 * 4 + 4


@pytest.mark.parametrize("seed", range(3))
def test_the_first_limit_is_the_kth_lowest(seed, small):
    """Found by sorting the same numbers."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((25, 8)).astype(np.float32)
    queries = random.standard_normal((4, 8)).astype(np.float32)
    asked = reference.Search.of(rows, queries, 6, "l2", None)
    bank = cuda._Rows(asked, "tf32")
    (piece,) = bank.pieces()
    run = cuda._Pass(asked, bank, asked.queries)
    made = products(None, run.moved, piece.moved, "tf32")
    run._limit(piece, made)
    upper = piece.halves + piece.slacks + run.bounds[:, None] * piece.sizes - made
    upper += (np.abs(piece.halves) + np.abs(made)) * np.float32(2.4e-7)
    np.testing.assert_allclose(run.limits, np.sort(upper, axis=1)[:, 5], rtol=1e-6)
    true = 0.5 * np.square(queries[:, None].astype(np.float64) - rows).sum(axis=2)
    true -= 0.5 * np.square(queries - bank.centre).sum(axis=1)[:, None]
    assert (np.sort(true, axis=1)[:, 5] <= run.limits).all()


@pytest.mark.parametrize("screen", ["fp32", "tf32"])
def test_products_are_asked_for_as_the_manual_of_cublas_has_it(screen, cupy, monkeypatch):
    """Rows and queries lie row by row, where cuBLAS counts columns."""

    class Pointed(np.ndarray):
        """An array that tells its address as CuPy's do."""

        @property
        def data(self):
            return SimpleNamespace(ptr=self.ctypes.data)

    blas = with_blas(cupy)
    random = np.random.default_rng(4)
    queries, rows = (random.standard_normal((count, 5)).astype(np.float32).view(Pointed) for count in (3, 8))
    held = np.empty((3, 8), np.float32).view(Pointed)
    monkeypatch.setattr(cupy, "empty", lambda shape, dtype: held)
    found = cuda._products(cupy, queries, rows, screen)
    np.testing.assert_allclose(np.asarray(found), np.asarray(queries) @ np.asarray(rows).T, rtol=1e-6)
    assert blas.modes == [{"fp32": 68, "tf32": 77}[screen]]  # CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32
