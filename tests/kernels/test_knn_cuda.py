"""The CUDA form without a GPU: its source compiles for what it is meant for, and is right when a CPU runs it."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from kernels.blas_on_cpu import with_blas
from kernels.gpu_on_cpu import compiles, stand_in
from sightline_kernels.knn import cuda, reference
from sightline_kernels.knn.prepared import cuda as prepared


@pytest.mark.parametrize("chip", ["sm_80", "sm_90"])
def test_the_source_compiles(chip):
    compiles(cuda.SOURCE, chip)


@pytest.fixture(scope="module")
def cupy(tmp_path_factory):
    """The source's functions, with threads that wait for each other."""
    return stand_in(cuda.SOURCE, tmp_path_factory.mktemp("cuda"))


SCREENS = ["fp16", "tf32", "fp32"]


def products(device, queries, rows, out, screen):
    """What tensor cores make of them at worst: 10 bits of TF32, the others cut off; halves of halves."""
    if screen == "tf32":
        queries, rows = ((one.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32) for one in (queries, rows))
    out[:, : len(rows)] = queries.astype(np.float32) @ rows.astype(np.float32).T


@pytest.fixture
def small(cupy, monkeypatch):
    """Little room, so that every path is walked."""
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cuda, "_multiply", products)
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
@pytest.mark.parametrize("screen", SCREENS)
def test_a_bank_that_stays_answers_again(metric, screen, small):
    random = np.random.default_rng(9)
    rows = (random.standard_normal((200, 33)) + 3).astype(np.float32)  # far from the origin: products err most
    bank = cuda.Bank(rows, metric=metric, screen=screen)
    for k, count in ((1, 3), (10, 2), (60, 1)):
        asked = (rows[random.integers(0, 200, count)] + random.standard_normal((count, 33)) * 0.1).astype(np.float32)
        expected, found = reference.search(rows, asked, k, metric=metric), bank.search(asked, k)
        np.testing.assert_array_equal(found[1], expected[1])
        np.testing.assert_array_equal(found[0], expected[0])


def launches(cupy, monkeypatch):
    """A list of the names and arguments that kernels will be launched with."""
    noted = []

    def kernel(source, name):
        launch = cupy.RawKernel(source, name)

        def run(grid, block, arguments):
            noted.append((name, arguments))
            launch(grid, block, arguments)

        return run

    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cuda, "kernel", kernel)
    monkeypatch.setattr(cuda, "_multiply", products)
    return noted


def test_what_leaves_no_room_is_halved_and_grows_again(cupy, monkeypatch):
    """Rows that come ever nearer, so that the first limit leaves out few of them, and then far ones."""
    noted = launches(cupy, monkeypatch)
    monkeypatch.setattr(cuda, "ROOM", 16)
    monkeypatch.setattr(cuda, "SAMPLE", 8)
    rows = np.concatenate([np.linspace(9, 1, 64), np.full(192, 20)])[:, None].astype(np.float32)
    asked = np.zeros((1, 1), np.float32)
    expected, found = reference.search(rows, asked, 4), cuda.Bank(rows, screen="fp32").search(asked, 4)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])
    spans = [int(given[-3] - given[-4]) for name, given in noted if name == "select_rows"]
    assert spans[:5] == [256, 128, 64, 32, 16]
    assert spans[-1] > 64


@pytest.mark.parametrize("metric", ["l2", "cosine", "inner_product"])
def test_few_queries_take_a_bank_that_stays_in_one_go(metric, cupy, monkeypatch):
    """However often rows travelled: one matrix of products, and of each kernel one launch behind the first limit."""
    noted = launches(cupy, monkeypatch)
    monkeypatch.setattr(prepared, "VALUES", 21 * 30)
    rows, asked, mask = problem(1)
    bank = cuda.Bank(np.split(rows, [40]), metric=metric, mask=mask)
    expected, found = reference.search(rows, asked, 5, metric=metric, mask=mask), bank.search(asked, 5)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])
    assert [name for name, _ in noted] == ["first_limits", "select_rows", "measure_rows", "merge_rows"]


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("metric", ["l2", "cosine", "inner_product"])
def test_rows_of_any_size_are_told_apart(metric, screen, small):
    """Lengths from nothing to beyond what float16 holds, and among them pairs that it would take for one."""
    random = np.random.default_rng(4)
    rows = random.standard_normal((120, 40)).astype(np.float32)
    rows[60:] = rows[:60] * (1 + 2.0**-12 * random.standard_normal((60, 40)))
    rows = (rows * 10.0 ** random.integers(-30, 12, (120, 1))).astype(np.float32)
    rows[7] = 0
    asked = rows[[3, 7, 100]] * np.float32(1.001)
    expected = reference.search(rows, asked, 9, metric=metric)
    found = cuda.Bank(rows, metric=metric, screen=screen).search(asked, 9)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])


def test_the_sample_lies_all_over_the_rows(cupy, monkeypatch):
    """The near rows come last, as in a bank sorted by class: few are left to be measured all the same."""
    noted = launches(cupy, monkeypatch)
    monkeypatch.setattr(cuda, "SAMPLE", 32 * 20)
    rows = np.concatenate([np.full((3000, 3), 50), np.random.default_rng(1).standard_normal((1000, 3))])
    asked = np.zeros((1, 3), np.float32)
    found = cuda.Bank(rows.astype(np.float32), screen="fp32").search(asked, 5)
    np.testing.assert_array_equal(found[1], reference.search(rows.astype(np.float32), asked, 5)[1])
    (measured,) = [given for name, given in noted if name == "measure_rows"]
    assert 5 <= int(measured[3][0]) < 300


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("seed", range(3))
def test_the_first_limit_is_the_kth_lowest(seed, screen, small):
    """Found by sorting the same numbers."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((25, 8)).astype(np.float32)
    queries = random.standard_normal((4, 8)).astype(np.float32)
    asked = reference.Search.of(rows, queries, 6, "l2", None)
    bank = prepared.PreparedRows(asked, screen)
    (piece,) = bank.pieces()
    run = cuda._Pass(asked, bank, asked.queries, patient=True)
    raw = np.empty((4, 32), piece.moved.dtype)
    products(None, run.moved, piece.moved, raw, screen)
    run._limit(piece, raw)
    made = raw[:, :25].astype(np.float32) * piece.factors * run.factors[:, None]
    upper = piece.halves + piece.slacks + run.bounds[:, None] * piece.sizes - made
    upper += (np.abs(piece.halves) + np.abs(made)) * np.float32(2.4e-7)
    np.testing.assert_allclose(run.limits, np.sort(upper, axis=1)[:, 5], rtol=1e-6)
    true = 0.5 * np.square(queries[:, None].astype(np.float64) - rows).sum(axis=2)
    true -= 0.5 * np.square(queries - bank.centre).sum(axis=1)[:, None]
    assert (np.sort(true, axis=1)[:, 5] <= run.limits).all()


@pytest.mark.parametrize("screen", SCREENS)
def test_products_are_asked_for_as_the_manual_of_cublas_has_it(screen, cupy):
    """Rows and queries lie row by row, where cuBLAS counts columns."""
    blas = with_blas(cupy)
    random = np.random.default_rng(4)
    kind = np.float16 if screen == "fp16" else np.float32
    queries, rows = (cupy.asarray(random.standard_normal((count, 5)).astype(kind)) for count in (3, 8))
    found = cupy.empty((3, 16), kind)
    found[:] = 7
    blas.mode = 5
    cuda._multiply(cupy, queries, rows, found, screen)
    exact = np.asarray(queries, np.float32) @ np.asarray(rows, np.float32).T
    np.testing.assert_allclose(np.asarray(found)[:, :8], exact, rtol=1e-3 if screen == "fp16" else 1e-6)
    assert (found[:, 8:] == 7).all()
    assert blas.modes == [77 if screen == "tf32" else 68]  # CUBLAS_COMPUTE_32F_FAST_TF32, CUBLAS_COMPUTE_32F
    assert (blas.math, blas.mode) == (
        [16],
        5,
    )  # CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION, and what was before


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("far", [1e5, 1e9, 1e14])
def test_rows_whose_keys_are_told_apart_by_rounding_alone(far, screen, cupy, monkeypatch):
    """Queries so far away that float64 rounds more than rows differ: what it makes of them decides."""
    launches(cupy, monkeypatch)
    random = np.random.default_rng(3)
    rows = (1 + random.integers(-3, 4, (3000, 64)) * 2.0**-23).astype(np.float32)
    asked = (random.standard_normal((4, 64)) * far).astype(np.float32)
    expected, found = reference.search(rows, asked, 5), cuda.Bank(rows, screen=screen).search(asked, 5)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])


@pytest.mark.parametrize("metric", ["l2", "cosine", "inner_product"])
@pytest.mark.parametrize("screen", SCREENS)
def test_numbers_next_to_zero_count(metric, screen, small):
    """Arithmetic in float32 would flush them."""
    random = np.random.default_rng(8)
    for rows_size, queries_size in ((1e-41, 1e-41), (1e3, 1e-37), (1e-42, 1e3)):
        rows = random.standard_normal((70, 20)).astype(np.float32) * np.float32(rows_size)
        rows[30:60] = rows[:30] * np.float32(1 + 2.0**-20)
        asked = random.standard_normal((2, 20)).astype(np.float32) * np.float32(queries_size)
        expected = reference.search(rows, asked, 6, metric=metric)
        found = cuda.Bank(rows, metric=metric, screen=screen).search(asked, 6)
        np.testing.assert_array_equal(found[1], expected[1])
        np.testing.assert_array_equal(found[0], expected[0])


def test_a_query_that_all_rows_are_near_to_does_not_hold_up_the_others(cupy, monkeypatch):
    """A query of zeros has one cosine with all rows: it is answered after the others, in steps of its own."""
    noted = launches(cupy, monkeypatch)
    monkeypatch.setattr(cuda, "ROOM", 64)
    monkeypatch.setattr(cuda, "SAMPLE", 256)
    monkeypatch.setattr(cuda, "FEW", 32)
    random = np.random.default_rng(5)
    rows = random.standard_normal((1500, 24)).astype(np.float32)
    asked = random.standard_normal((20, 24)).astype(np.float32)
    asked[11] = 0
    bank = cuda.Bank(rows, metric="cosine", screen="fp32")
    expected, found = reference.search(rows, asked, 5, metric="cosine"), bank.search(asked, 5)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])
    queries = [int(given[9]) for name, given in noted if name == "select_rows"]
    assert queries.count(20) < 5 < queries.count(1) > 20
    assert set(queries) == {1, 20}
