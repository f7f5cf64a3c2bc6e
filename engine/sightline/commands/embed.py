"""Lay a bank out in the plane: sightline embed BANK --method pca|tsne -o OUT."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from sightline.bank.agreement import neighbours_within
from sightline.bank.bank import Bank, image_blocks, open_bank
from sightline.bank.labels import RULES, labels_of
from sightline.bank.projection import FEWEST, Projection, pca, tsne
from sightline.bank.space import Space
from sightline.commands._options import Threads
from sightline.errors import UsageError
from sightline.job.files import make_folder, write_atomically
from sightline.report.scatter_page import Scatter, write_scatter

NEAR = 6  # neighbours that the page shows of an image


def embed(
    bank: Annotated[Path, Parameter(help="A folder that sightline index wrote.")],
    /,
    *,
    out: Annotated[Path, Parameter(name=("--out", "-o"), help="Folder for coordinates.parquet and embedding.html.")],
    method: Annotated[Literal["pca", "tsne"], Parameter(help="Largest variance, or neighbours together.")] = "tsne",
    space: Annotated[str | None, Parameter(help="feature, pixel, or a layer's name.")] = None,
    perplexity: Annotated[float, Parameter(help="Of t-SNE: about how many neighbours count.")] = 30.0,
    seed: Annotated[int, Parameter(help="Of t-SNE.")] = 0,
    labels_by: Annotated[str | None, Parameter(help=f"Colour by label. {RULES}.")] = None,
    predictions: Annotated[
        str | None,
        Parameter(help="Colour by prediction: CSV or Parquet of id, label. With labels, by error."),
    ] = None,
    threads: Threads = None,
    json: Annotated[bool, Parameter(help="Print one JSON object on stdout, nothing else.", negative="")] = False,
) -> int:
    """Lay a bank out in the plane, and say what was lost."""
    opened = open_bank(bank)
    chosen = opened.space(space)
    if len(opened) < FEWEST:
        raise UsageError(f"The bank has {len(opened)} images; {FEWEST} are needed for a projection.")
    if not perplexity > 0:
        raise UsageError(f"--perplexity {perplexity} must be above 0; 5 to 50 are usual.")
    colours = _colours(opened, labels_by, predictions)
    rows = image_blocks(opened, chosen)
    found = pca(rows) if method == "pca" else tsne(rows, perplexity=perplexity, seed=seed, threads=threads)
    make_folder(out)
    _write_table(out / "coordinates.parquet", opened, found, colours)
    near = neighbours_within(opened, chosen, k=min(NEAR, len(opened) - 1), metric="l2", threads=threads)
    write_scatter(out / "embedding.html", opened, Scatter(found, _facts(opened, chosen, found), colours, near.rows))
    facts = {"command": "embed", "bank": str(bank), "out": str(out), **_facts(opened, chosen, found)}
    print(json_format.dumps(facts, ensure_ascii=False) if json else _text(facts))
    return 0


def _colours(bank: Bank, labels_by: str | None, predictions: str | None) -> dict[str, tuple[str, ...]]:
    """By name, a value for each image."""
    colours = dict[str, tuple[str, ...]]()
    if labels_by is not None:
        colours["label"] = labels_of(labels_by, bank.ids, bank.paths)
    if predictions is not None:
        colours["prediction"] = labels_of(predictions, bank.ids, bank.paths)
    if len(colours) == 2:
        pairs = zip(colours["label"], colours["prediction"], strict=True)
        colours["error"] = tuple("right" if one == other else "wrong" for one, other in pairs)
    return colours


def _facts(bank: Bank, space: Space, found: Projection) -> dict[str, Any]:
    return {
        "images": len(bank),
        "space": space.name,
        "method": found.method,
        "explained_variance": list(found.explained) or None,
        "kl_divergence": found.divergence,
        "trustworthiness": found.trustworthiness,
        "neighbours_preserved": found.preserved,
        "k": found.k,
    }


def _write_table(path: Path, bank: Bank, found: Projection, colours: dict[str, tuple[str, ...]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {"id": bank.ids, "path": bank.paths, **colours}
    for axis, name in enumerate("xyz"[: found.coordinates.shape[1]]):
        columns[name] = found.coordinates[:, axis]
    sink: Any = pa.BufferOutputStream()
    pq.write_table(pa.table({name: pa.array(column) for name, column in columns.items()}), sink)
    write_atomically(path, [memoryview(sink.getvalue())])


def _text(facts: dict[str, Any]) -> str:
    lines = [f"{facts['out']}: {facts['images']} images of {facts['space']} by {facts['method']}"]
    if facts["explained_variance"] is not None:
        shares = ", ".join(f"{share:.1%}" for share in facts["explained_variance"])
        lines.append(f"  explained variance {shares}")
    if facts["kl_divergence"] is not None:
        lines.append(f"  Kullback-Leibler divergence {facts['kl_divergence']:.3f}")
    lines.append(f"  trustworthiness {facts['trustworthiness']:.3f} of {facts['k']} neighbours")
    lines.append(f"  neighbours that stay {facts['neighbours_preserved']:.1%}")
    return "\n".join(lines)
