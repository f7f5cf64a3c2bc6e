"""Identity: is it what it claims to be, and how does it differ before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.audit.activations import activations
from sightline.audit.context import Context, takes_pixels
from sightline.audit.section import Finding, Outcome
from sightline.audit.weights import Weights, paired, weights_of
from sightline.model import Model
from sightline.preprocess import Preprocess
from sightline.routes.engines import precision_of

FEW_LEVELS = 16  # of an output channel's weights: four bits
LARGE = 64  # weights of a channel from which so few levels are no accident
APART = 0.05  # relative difference of weights worth telling; int8 per channel stays below 0.02

NORMALISATION = ("scale", "mean", "std")
TOLD = 3  # layers with other weights that are named one by one


class Identity:
    """Hashes, operators, precision, preprocessing and weights, side by side."""

    name = "identity"
    place = 10
    share = 0.00
    figures: Mapping[str, str] = {
        "preprocessing_changes": "fields of the preprocessing that differ from the reference's",
        "label_changes": "classes that both files name, and not alike",
        "size_ratio": "bytes of the candidate's file over the reference's",
        "parameters_ratio": "its parameters over the reference's",
        "weights_apart": "largest relative difference of a layer's weights from the reference's of the same layer",
        "layers_unpaired": "layers with weights, of either, without a counterpart in the other: not compared",
        "new_activations": "kinds of activation functions that the reference does not have",
        "custom_operators": "nodes outside of ONNX's own operator sets",
    }

    def run(self, context: Context) -> Outcome:
        reference, candidate = context.reference.model, context.candidate.model
        found = list[Finding]()
        found += _preprocessing(reference, candidate)
        changes = float(len(found))
        found += _answers(reference, candidate)
        had, has = (activations(model.graph) for model in (reference, candidate))
        new = sorted(has.keys() - had.keys())
        found += [
            Finding("fault", f"{has[name]} times {name}, where the reference has {', '.join(sorted(had)) or 'none'}.")
            for name in new
        ]
        weights, differing, unpaired = _weights(reference, candidate)
        found += differing
        foreign = Counter(node.domain for node in candidate.graph.graph if node.domain not in ("", "ai.onnx"))
        if foreign:
            named = ", ".join(f"{count} of {domain}" for domain, count in foreign.items())
            found.append(Finding("warning", f"Nodes that are not ONNX's own, which not every runtime has: {named}."))
        sizes = [_size(model) for model in (reference, candidate)]
        figures: dict[str, float | None] = {
            "preprocessing_changes": changes,
            "label_changes": float(len(_renamed(reference, candidate))),
            "size_ratio": sizes[1] / max(sizes[0], 1),
            "parameters_ratio": candidate.layers.parameters / max(reference.layers.parameters, 1),
            **weights,
            "new_activations": float(len(new)),
            "custom_operators": float(sum(foreign.values())),
        }
        details = {
            "reference": _facts(reference, sizes[0]), "candidate": _facts(candidate, sizes[1]), "unpaired": unpaired,
        }  # fmt: skip
        return Outcome(figures, tuple(found), details=details)


def _size(model: Model) -> int:
    return sum(path.stat().st_size for path in model.files)


def _facts(model: Model, size: int) -> dict[str, Any]:
    graph = model.graph
    return {
        "file": model.path.name, "sha256": model.sha256, "bytes": size, "precision": precision_of(graph),
        "opset": {domain or "ai.onnx": version for domain, version in graph.opset_imports.items()},
        "producer": " ".join(filter(None, (graph.producer_name, graph.producer_version))),
        "preprocessing": str(model.preprocess), "parameters": model.layers.parameters, "macs": model.layers.macs,
        "operators": dict(Counter(node.op_type for node in graph.graph).most_common()),
        "provenance": _notes(model),
    }  # fmt: skip


def _notes(model: Model) -> dict[str, str]:
    """What the exporter wrote, long lists left out."""
    return {key: text for key, text in model.metadata.items() if key.startswith("sightline.") and len(text) < 400}


def _preprocessing(reference: Model, candidate: Model) -> Iterator[Finding]:
    """What differs of the way from a photograph to the input.

    Normalisation is compared as what it does. A graph that takes pixels and normalises them itself is left to parity.
    """
    one, other = asdict(reference.preprocess), asdict(candidate.preprocess)
    inside = takes_pixels(candidate) and not takes_pixels(reference)
    same = inside or _normalised_alike(reference.preprocess, candidate.preprocess)
    for name, value in one.items():
        if value != other[name] and not (same and name in NORMALISATION):
            yield Finding(
                "fault", f"Preprocessing differs in {name}: {_short(other[name])}, the reference has {_short(value)}."
            )


def _normalised_alike(one: Preprocess, other: Preprocess) -> bool:
    """Whether (pixel * scale - mean) / std is the same, in whatever units it is written."""
    lines = [
        np.array([[each.scale / std, mean / std] for mean, std in zip(each.mean, each.std, strict=True)])
        for each in (one, other)
    ]
    return lines[0].shape == lines[1].shape and np.allclose(*lines, rtol=1e-5, atol=1e-8)


def _renamed(reference: Model, candidate: Model) -> list[int]:
    """Classes that both name, and not alike."""
    pairs = zip(reference.labels, candidate.labels, strict=False)  # one may have none
    return [place for place, (one, other) in enumerate(pairs) if one != other]


def _answers(reference: Model, candidate: Model) -> Iterator[Finding]:
    """What whoever reads the output must know: other names of the classes, probabilities in place of scores."""
    if places := _renamed(reference, candidate):
        names = [repr(model.labels[places[0]]) for model in (reference, candidate)]
        text = (
            f"{len(places)} classes have other names; class {places[0]} is {names[1]}, in the reference {names[0]}."
        )
        yield Finding("fault", text)
    inside = [model.logits_name != model.output for model in (reference, candidate)]
    if inside[0] != inside[1]:
        kinds = [f"probabilities ({model.activation})" if within else "scores"
                 for model, within in zip((reference, candidate), inside, strict=True)]  # fmt: skip
        yield Finding(
            "warning",
            f"It puts out {kinds[1]}, the reference {kinds[0]}: whoever reads the output must know. "
            "Scores are compared.",
        )


def _short(value: Any) -> str:
    return " ".join(f"{one:g}" for one in value) if isinstance(value, tuple | list) else str(value)


def _weights(reference: Model, candidate: Model) -> tuple[dict[str, float | None], list[Finding], dict[str, Any]]:
    """The largest relative difference, layers whose weights are not the reference's, and those left uncompared."""
    pairs, *left = paired(weights_of(reference), weights_of(candidate))
    worst, told = 0.0, list[tuple[float, str]]()
    for ours, theirs in pairs:
        one, other = ours.array, theirs.array
        wide = np.asarray(one, np.float64), np.asarray(other, np.float64)
        apart = float(np.linalg.norm(wide[0] - wide[1]) / max(float(np.linalg.norm(wide[0])), 1e-30))
        worst = max(worst, apart)
        if apart > APART:
            how = f"{_coarse(one, other)}{_silenced(one, other)}"
            told.append((apart, f"Weights of {_title(reference, ours)} differ by {apart:.1%}{how}."))
    found = [Finding("fault", text) for _, text in told]
    if len(told) > TOLD:
        most = max(told)[1]
        found = [Finding("fault", f"{len(told)} of {len(pairs)} layers have other weights, the most: {most}")]
    names = [[_title(model, one) for one in some] for model, some in zip((reference, candidate), left, strict=True)]
    found += _uncompared(len(pairs), names)
    figures = {"weights_apart": worst if pairs else None, "layers_unpaired": float(sum(map(len, names)))}
    return figures, found, dict(zip(("reference", "candidate"), names, strict=True))


def _title(model: Model, weights: Weights) -> str:
    known = any(layer.name == weights.name for layer in model.layers)
    return model.layers.title(weights.name) if known else weights.name


def _uncompared(pairs: int, names: list[list[str]]) -> list[Finding]:
    """Layers with weights that have no counterpart of their shape."""
    if not any(names):
        return []
    whose = [
        f"{len(some)} of the {side}'s ({', '.join(some[:TOLD])}{', …' if len(some) > TOLD else ''})"
        for side, some in zip(("reference", "candidate"), names, strict=True)
        if some
    ]
    text = f"Weights were compared of {pairs} layers; {' and '.join(whose)} have no counterpart of their shape."
    return [Finding("warning", text)]


def _coarse(one: NDArray[Any], other: NDArray[Any]) -> str:
    """Told where the candidate's weights (out, ...) are few numbers, as those of four bits are."""
    whole = len(np.unique(other))
    rows = other.reshape(len(other), -1)
    if whole <= FEW_LEVELS and other.size >= LARGE:
        return f" and take {whole} values only"
    if rows.shape[1] < LARGE:
        return ""
    levels, before = (max(len(np.unique(row)) for row in array.reshape(len(array), -1)) for array in (other, one))
    return f" and take {levels} values only in each channel" if levels <= FEW_LEVELS < before else ""


def _silenced(one: NDArray[Any], other: NDArray[Any]) -> str:
    """Told where channels of the candidate's weights (out, ...) are all 0 that are not in the reference."""
    empty = [~array.reshape(len(array), -1).any(axis=1) for array in (one, other)]
    count = int((empty[1] & ~empty[0]).sum())
    return f"; {count} of {len(other)} channels are 0" if count else ""


SECTION = Identity()
