"""Exact neighbours against FAISS's flat index on the same machine: squared Euclidean distance, queries per second."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image

from sightline_kernels.knn import cpu

SHARED = Path(__file__).parents[2] / "shared"
QUERIES, NEIGHBOURS = (1, 16, 256, 1000), (10, 100)
BLAS_FROM = (20, 1)  # queries from which FAISS multiplies by BLAS: its default, and always; its best is the peer
BANKS = ("SqueezeNet 1.0, last fire module", "random 100k x 512", "random 200k x 128")


def fire(photos: list[Path], model: Path) -> NDArray[np.float32]:
    """(N, 512) all spatial positions of the last concatenation: 169 rows a photograph."""
    graph = onnx.load(model)
    name = [node.output[0] for node in graph.graph.node if node.op_type == "Concat"][-1]
    graph.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    mean, deviation = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    found: list[NDArray[np.float32]] = []
    for photo in photos:
        pixels = np.asarray(Image.open(photo).convert("RGB").resize((224, 224)), np.float32) / 255
        (maps,) = session.run([name], {"input": ((pixels - mean) / deviation).transpose(2, 0, 1)[None]})
        found.append(maps[0].reshape(maps.shape[1], -1).T)
    return np.ascontiguousarray(np.concatenate(found))


@pytest.fixture(scope="module", params=BANKS)
def bank(request: pytest.FixtureRequest) -> tuple[str, NDArray[np.float32], Any]:
    """A title, rows, and FAISS's index of them."""
    random = np.random.default_rng(0)
    title = request.param
    if title.startswith("SqueezeNet"):
        photos, model = sorted((SHARED / "images").glob("*.jpg"))[:800], SHARED / "models" / "squeezenet1_0.onnx"
        if not photos or not model.exists():
            pytest.skip("the photographs and the network are not beside the checkout")
        rows = fire(photos, model)
        title += f" at {len(photos)} photographs, {len(rows):,} x {rows.shape[1]}"
    else:
        rows = random.standard_normal((100_000, 512) if "512" in title else (200_000, 128), dtype=np.float32)
    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(rows)
    return title, rows, index


@pytest.mark.parametrize(("count", "k"), list(itertools.product(QUERIES, NEIGHBOURS)))
def test_knn(bank: tuple[str, NDArray[np.float32], Any], count: int, k: int, race: Any, session: Any) -> None:
    title, rows, index = bank
    random = np.random.default_rng(count)
    queries = rows[random.choice(len(rows), count, replace=False)]
    queries = queries + np.float32(0.1 * rows.std()) * random.standard_normal(queries.shape, dtype=np.float32)
    ours = partial(cpu.search, rows, queries, k, threads=session.threads)
    peers = {
        f"FAISS, {threads} threads, BLAS from {least} queries": partial(peer, index, queries, k, threads, least)
        for threads in sorted({1, session.threads}, reverse=True)  # OpenMP's threads go on spinning: let them rest
        for least in BLAS_FROM
        if count < 256 or (threads == session.threads and least == BLAS_FROM[0])  # it changes nothing, or is slower
    }
    agree(rows, queries, ours(), [call() for call in peers.values()])
    race(ours, peers, case=f"{title}, {count:,} queries, k = {k}", metric="throughput", unit="queries/s", work=count)


def peer(index: Any, queries: NDArray[np.float32], k: int, threads: int, least: int) -> NDArray[np.int64]:
    """(Q, k) what FAISS finds."""
    faiss.omp_set_num_threads(threads)
    faiss.cvar.distance_compute_blas_threshold = least
    return index.search(queries, k)[1]


def agree(rows: Any, queries: Any, found: tuple[Any, Any], others: list[NDArray[np.int64]]) -> None:
    """Every neighbour of the peer's is as near as ours of the same rank, to float32's rounding of |q|² + |x|²."""
    for query, mine, ids in zip(queries.astype(np.float64), *found, strict=True):
        np.testing.assert_allclose(np.linalg.norm(rows[ids] - query, axis=1), mine, rtol=1e-12)
    for other in others:
        for query, mine, ids in zip(queries.astype(np.float64), found[0], other, strict=True):
            theirs = np.sort(np.square(rows[ids] - query).sum(axis=1))
            slack = 1e-5 * (np.square(query).sum() + np.square(rows[ids]).sum(axis=1).max())
            assert np.abs(theirs - np.square(mine)).max() < slack
