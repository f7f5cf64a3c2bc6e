"""Banks seen from two sides: principal components and t-SNE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.bank.search import nearest_others
from sightline.errors import UsageError
from sightline.threads import check_threads
from sightline.types import FloatArray

WIDEST = 8192  # features whose covariance is held at once; wider rows need fewer images than that
COMPONENTS = 50  # that t-SNE sees, as its authors did it
EXAGGERATION, STEPS = (
    12,
    750,
)  # Belkina et al. 2019; one pace throughout ends lower than openTSNE's own, which speeds up
FEWEST = 4  # rows that have a picture of any meaning


@dataclass(frozen=True)
class Projection:
    """N rows in few dimensions, and what was lost.

    Attributes:
        coordinates: (N, d) float32.
        method: "pca" or "tsne".
        explained: (d,) share of the variance along each component; empty for t-SNE.
        divergence: Kullback-Leibler, what t-SNE made small; None for PCA.
        trustworthiness: 0 to 1: that neighbours in the picture are neighbours in the space (Venna, Kaski, 2001).
        preserved: share of the nearest neighbours in the space that are so in the picture.
        k: neighbours that the last two look at.
    """

    coordinates: FloatArray
    method: str
    explained: tuple[float, ...]
    divergence: float | None
    trustworthiness: float
    preserved: float
    k: int


@dataclass(frozen=True)
class Components:
    """Directions of largest variance.

    Attributes:
        mean: (D,) float64.
        directions: (d, D) float64, of unit length; the largest entry of each is positive.
        variances: (d,) along them.
        total: variance in all.
    """

    mean: NDArray[np.float64]
    directions: NDArray[np.float64]
    variances: NDArray[np.float64]
    total: float

    def project(self, rows: NDArray[Any]) -> FloatArray:
        """(N, d) coordinates of rows (N, D)."""
        return ((rows - self.mean) @ self.directions.T).astype(np.float32)


def principal_components(blocks: Sequence[NDArray[Any]], count: int) -> Components:
    """Of all rows of the blocks (n, D), read one after the other: twice, and never held together unless D is large.

    Raises:
        UsageError: too few rows, or too many of too many features.
    """
    rows, features = sum(map(len, blocks)), blocks[0].shape[1]
    if rows < FEWEST:
        raise UsageError(f"The bank has {rows} rows; {FEWEST} are needed for a projection.")
    mean = sum((block.sum(axis=0, dtype=np.float64) for block in blocks), np.zeros(features)) / rows
    count = min(count, features, rows - 1)
    if features <= WIDEST:
        covariance = np.zeros((features, features))
        for block in blocks:
            centred = block - mean
            covariance += centred.T @ centred
        directions, variances = _largest(covariance / (rows - 1), count)
        total = float(np.trace(covariance) / (rows - 1))
        return Components(mean, directions, variances, total)
    if rows > WIDEST:
        raise UsageError(
            f"{rows:,} rows of {features:,} features are too many for exact components: one of them may be at most "
            f"{WIDEST:,}. Index with --pool avg, or smaller --pixels."
        )
    everything = np.concatenate([block - mean for block in blocks])  # (N, D)
    gram = everything @ everything.T / (rows - 1)
    vectors, variances = _largest(gram, count)
    directions = vectors @ everything / np.sqrt(np.maximum(variances, np.finfo(float).tiny) * (rows - 1))[:, None]
    return Components(mean, _oriented(directions), variances, float(np.trace(gram)))


def _largest(symmetric: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(d, n) eigenvectors and (d,) eigenvalues, largest first."""
    from scipy.linalg import eigh

    n = len(symmetric)
    values, vectors = eigh(symmetric, subset_by_index=(n - count, n - 1))
    return _oriented(vectors.T[::-1]), np.maximum(values[::-1], 0)


def _oriented(directions: NDArray[np.float64]) -> NDArray[np.float64]:
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1)
    return directions * np.where(largest < 0, -1.0, 1.0)


def pca(blocks: Sequence[NDArray[Any]], *, dimensions: int = 2, k: int = 10) -> Projection:
    """The plane of largest variance."""
    found = principal_components(blocks, dimensions)
    placed = np.concatenate([found.project(block) for block in blocks])
    shares = tuple(float(one / found.total) if found.total else 0.0 for one in found.variances)
    return Projection(placed, "pca", shares, None, *_quality(blocks, placed, k))


def tsne(
    blocks: Sequence[NDArray[Any]],
    *,
    perplexity: float = 30.0,
    seed: int = 0,
    threads: int | None = None,
    k: int = 10,
) -> Projection:
    """Neighbours kept together (van der Maaten, Hinton, 2008), by openTSNE, begun from principal components.

    It is given the exact neighbours among the first 50 components, found by our own kernel. Those of the whole space
    would do worse by its own measure: what lies beyond is mostly noise, in which neighbours are nobody's.
    """
    check_threads(threads)
    from openTSNE import TSNE
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.initialization import rescale
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    components = principal_components(blocks, COMPONENTS)
    reduced = np.concatenate([components.project(block) for block in blocks])
    start = rescale(reduced[:, :2].astype(np.float64))
    kept = min(perplexity, (len(start) - 1) / 3)
    near = nearest_others([reduced], k=max(1, int(3 * kept)), threads=threads)  # 3: beyond it affinities vanish
    index = PrecomputedNeighbors(near.rows, np.maximum(near.scores, 0).astype(np.float64))
    options: dict[str, Any] = {"perplexity": kept, "knn_index": index, "n_jobs": threads or -1}
    alike = PerplexityBasedNN(**options)
    pace = max(len(start) / EXAGGERATION, 50.0)
    settings: dict[str, Any] = {
        "early_exaggeration": EXAGGERATION, "learning_rate": pace, "n_iter": STEPS, "initial_momentum": 0.5,
    }  # fmt: skip
    descent = TSNE(random_state=seed, n_jobs=threads or -1, **settings)
    made: Any = descent.fit(affinities=alike, initialization=start)
    placed = np.asarray(made, np.float32)
    return Projection(placed, "tsne", (), float(made.kl_divergence), *_quality(blocks, placed, k))


def _quality(blocks: Sequence[NDArray[Any]], placed: FloatArray, k: int) -> tuple[float, float, int]:
    """Trustworthiness, share of neighbours that stay, and how many were looked at."""
    from sklearn.manifold import trustworthiness
    from sklearn.neighbors import NearestNeighbors

    rows = np.concatenate([np.asarray(block, np.float32) for block in blocks])
    wanted = max(1, min(k, (len(rows) - 1) // 2))
    near, shown = (
        NearestNeighbors(n_neighbors=wanted).fit(points).kneighbors(return_distance=False)
        for points in (rows, placed)
    )
    kept = np.mean([len(np.intersect1d(one, other)) for one, other in zip(near, shown, strict=True)]) / wanted
    return float(trustworthiness(rows, placed, n_neighbors=wanted)), float(kept), wanted
