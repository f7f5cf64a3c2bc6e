"""Find the nearest images of a bank: sightline search BANK QUERY… -k 10."""

from __future__ import annotations

import json as json_format
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from sightline.bank.agreement import LabelAgreement, label_agreement
from sightline.bank.bank import Bank, image_blocks, open_bank
from sightline.bank.duplicates import clusters, near_duplicates
from sightline.bank.labels import RULES, labels_of
from sightline.bank.queries import queries_of
from sightline.bank.search import MOST, Metric, Neighbours, nearest
from sightline.bank.space import PIXELS, Space
from sightline.commands._options import Threads
from sightline.errors import UsageError
from sightline.report.neighbours_page import Answer, write_neighbours

LISTED = 100  # near duplicates that are printed as text


def search(
    bank: Annotated[Path, Parameter(help="A folder that sightline index wrote.")],
    /,
    *query: Annotated[str, Parameter(help="Image files, folders or patterns; or ids of the bank.")],
    k: Annotated[int, Parameter(name=("-k", "--k"), help="Neighbours of each query.")] = 10,
    space: Annotated[
        str | None, Parameter(help="feature, pixel, both, or the name of a layer; all unless given.")
    ] = None,
    metric: Annotated[Metric, Parameter(help="Euclidean or cosine distance, or inner product.")] = "l2",
    duplicates: Annotated[
        float | None, Parameter(help="Report images of the bank no farther apart than this.")
    ] = None,
    labels_by: Annotated[str | None, Parameter(help=f"Measure how neighbours agree. {RULES}.")] = None,
    model: Annotated[str | None, Parameter(help="Where the bank's network is now, if it was moved.")] = None,
    html: Annotated[Path | None, Parameter(help="Also write a page that shows the neighbours.")] = None,
    threads: Threads = None,
    json: Annotated[bool, Parameter(help="Print one JSON object on stdout, nothing else.", negative="")] = False,
) -> int:
    """Find the nearest images of a bank, exactly."""
    if not 1 <= k <= MOST:
        raise UsageError(f"-k {k} must be between 1 and {MOST}.")
    opened = open_bank(bank)
    if not len(opened):
        raise UsageError(f"{bank} holds no images yet.")
    spaces = _spaces(opened, space)
    if duplicates is None and labels_by is None and not query:
        raise UsageError("Say what to look for: image files or ids of the bank, --duplicates or --labels-by.")
    facts: dict[str, Any] = {"command": "search", "bank": str(bank), "images": len(opened), "metric": metric}
    labels = labels_of(labels_by, opened.ids, opened.paths) if labels_by is not None else None
    answers: list[Answer] = []
    if query:
        asked = queries_of(opened, query, spaces, model=model, threads=threads)
        found = {
            one.name: nearest(
                asked.rows[one.name], image_blocks(opened, one), k=min(k, len(opened)), metric=metric, threads=threads
            )
            for one in spaces
        }
        facts["queries"] = [
            {"query": name, "neighbours": {one.name: _listed(opened, found[one.name], row, labels) for one in spaces}}
            for row, name in enumerate(asked.ids)
        ]
        answers = [Answer(name, asked.paths[row], _answer(found, row)) for row, name in enumerate(asked.ids)]
    agreements = (
        [label_agreement(opened, one, labels, k=k, metric=metric, threads=threads) for one in spaces]
        if labels is not None
        else []
    )
    if agreements:
        facts["label_agreement"] = [_agreement_facts(one) for one in agreements]
    if duplicates is not None:
        facts["near_duplicates"] = _duplicate_facts(opened, spaces[0], duplicates, metric, threads)
    if html is not None:
        write_neighbours(html, opened, answers, agreements, labels or (), metric)
        facts["html"] = str(html)
    print(json_format.dumps(facts, ensure_ascii=False) if json else _text(facts))
    return 0


def _spaces(bank: Bank, name: str | None) -> list[Space]:
    return list(bank.spaces) if name in (None, "both") else [bank.space(name)]


def _listed(bank: Bank, found: Neighbours, row: int, labels: Sequence[str] | None) -> list[dict[str, Any]]:
    return [
        {"id": bank.ids[near], "row": int(near), "score": float(score), "path": bank.paths[near]}
        | ({} if labels is None else {"label": labels[near]})
        for near, score in zip(found.rows[row], found.scores[row], strict=True)
    ]


def _answer(found: dict[str, Neighbours], row: int) -> dict[str, list[tuple[int, float]]]:
    return {
        name: [(int(near), float(score)) for near, score in zip(one.rows[row], one.scores[row], strict=True)]
        for name, one in found.items()
    }


def _agreement_facts(one: LabelAgreement) -> dict[str, Any]:
    return {
        "space": one.space.name, "k": one.k, "purity": one.purity, "majority": one.majority, "chance": one.chance,
        "images": one.images,
    }  # fmt: skip


def _duplicate_facts(
    bank: Bank, space: Space, threshold: float, metric: Metric, threads: int | None
) -> dict[str, Any]:
    if metric == "inner_product":
        raise UsageError("--duplicates needs a distance: --metric l2 or cosine.")
    pairs = near_duplicates(bank, space, threshold, metric=metric, threads=threads)
    return {
        "space": space.name,
        "threshold": threshold,
        "pairs": [[bank.ids[pair.one], bank.ids[pair.other], pair.distance] for pair in pairs],
        "clusters": [[bank.ids[row] for row in rows] for rows in clusters(pairs)],
    }


def _text(facts: dict[str, Any]) -> str:
    lines = list[str]()
    for one in facts.get("queries", ()):
        for space, near in one["neighbours"].items():
            lines.append(f"{one['query']} · {PIXELS if space == PIXELS else space}")
            for place, neighbour in enumerate(near, 1):
                label = f"  {neighbour['label']}" if "label" in neighbour else ""
                lines.append(f"  {place:3}  {neighbour['score']:12.6g}  {neighbour['id']}{label}")
    for one in facts.get("label_agreement", ()):
        lines.append(
            f"{one['space']}: {one['purity']:.1%} of the {one['k']} nearest share the label (chance "
            f"{one['chance']:.1%}); their majority is right for {one['majority']:.1%} of {one['images']} images"
        )
    if "near_duplicates" in facts:
        found = facts["near_duplicates"]
        lines.append(
            f"{len(found['pairs'])} pairs no farther apart than {found['threshold']:g} in {found['space']}, in "
            f"{len(found['clusters'])} clusters"
        )
        lines += [f"  {distance:12.6g}  {one}  {other}" for one, other, distance in found["pairs"][:LISTED]]
        if len(found["pairs"]) > LISTED:
            lines.append(f"  and {len(found['pairs']) - LISTED} more; --json lists them all")
    if "html" in facts:
        lines.append(f"Page: {facts['html']}")
    return "\n".join(lines)
