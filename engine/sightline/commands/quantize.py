"""Make a variant of a model in another precision: sightline quantize MODEL --to fp16|int8 -o OUT.onnx."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from cyclopts import Parameter

from sightline.commands._options import ModelOptions
from sightline.errors import OutputConflict, UsageError
from sightline.job.files import make_folder
from sightline.job.inputs import inputs_from, load_photo
from sightline.methods.forward.predict import Predict
from sightline.model import Model, load

BATCH = 8  # photographs of one calibration run
COMPARED = 16  # photographs that parity is measured on


def quantize(
    model: Annotated[str, Parameter(help="An .onnx file, or demo.")],
    /,
    *,
    to: Annotated[Literal["fp16", "int8"], Parameter(help="Precision of the variant; it is built into the graph.")],
    out: Annotated[Path, Parameter(name=("--out", "-o"), help="File to write.")],
    calib: Annotated[
        tuple[str, ...],
        Parameter(
            help="Photographs that int8 takes its ranges from, one or several; behind the model.",
            consume_multiple=True,
        ),
    ] = (),
    limit: Annotated[int, Parameter(help="Of them at most so many.")] = 200,
    calibration: Annotated[
        Literal["minmax", "entropy", "percentile"], Parameter(help="How a range is chosen from what was seen.")
    ] = "minmax",
    exclude: Annotated[
        tuple[str, ...],
        Parameter(
            help="Layers that stay in fp32, one or several: a node, a layer or a module with all that is in it.",
            consume_multiple=True,
        ),
    ] = (),
    json: Annotated[bool, Parameter(help="Print one JSON object.", negative="")] = False,
    model_options: ModelOptions = ModelOptions(),  # noqa: B008 - frozen
) -> int:
    """Make a variant of a model in another precision, and say how far it is from the original."""
    from sightline_exporters.variants import to_half, to_int8

    if limit < 1:
        raise UsageError(f"--limit {limit} must be at least 1.")
    if to == "int8" and not calib:
        raise UsageError("int8 needs photographs like those it will see: --calib PHOTOS/.")
    if out.exists():
        raise OutputConflict(f"{out} is there already. Choose another -o.")
    with model_options.load(model) as network:
        nodes = _nodes(network, exclude)
        make_folder(out.absolute().parent)
        if to == "fp16":
            to_half(network.path, out, exclude=nodes)
        else:
            to_int8(network.path, out, _batches(network, calib, limit), calibration=calibration, exclude=nodes)
        facts = {"command": "quantize", "out": str(out), "to": to, **_compared(network, out, calib)}
    print(json_format.dumps(facts) if json else _text(facts))
    return 0


def _nodes(network: Model, names: tuple[str, ...]) -> list[str]:
    """The graph's nodes behind names that people use.

    Raises:
        UnknownName: neither a node nor a layer nor a module.
        UsageError: the nodes of a layer bear no name, by which ONNX Runtime's tools could be told of them.
    """
    made = {str(node.outputs[0].name): str(node.name or "") for node in network.graph.graph}
    found = list[str]()
    for name in names:
        if name in made.values():
            found.append(name)
            continue
        inside = [one.name for one in network.layers if f"{one.module}.".startswith(f"{name}.")]
        nodes = [made[value] for value in inside or [network.layers.resolve(name)] if value in made]
        if not any(nodes):
            raise UsageError(f"The nodes of {name} have no name in {network.path.name}: they cannot be left out.")
        found += [node for node in nodes if node]
    return list(dict.fromkeys(found))


def _batches(network: Model, calib: tuple[str, ...], limit: int) -> Iterator[Any]:
    """Photographs as the graph takes them, groups of one size, which ONNX Runtime's histograms need.

    The first ones come again where the graph's own batch would leave some out.
    """
    entries = list(inputs_from(calib).entries[:limit])
    read, size = load_photo(network.photograph), network.input.batch
    if size is None:
        size = next(one for one in range(BATCH, 0, -1) if len(entries) % one == 0)
    entries += (entries * size)[: -len(entries) % size]
    for start in range(0, len(entries), size):
        group = [read(one).tensor for one in entries[start : start + size]]
        yield network.input.adapt(np.stack(group))


def _compared(network: Model, out: Path, calib: tuple[str, ...]) -> dict[str, Any]:
    """Bytes of both, and the difference of their scores: on the last photographs, or on noise."""
    with load(out, preprocess=network.preprocess if network.has_preprocess else None, output=network.output,
              size=network.input_size if network.input.size is None else None) as variant:  # fmt: skip
        oracles: list[Any] = [one.oracle(one.plan(Predict())) for one in (network, variant)]
        if calib:
            read = load_photo(network.photograph)
            images = np.stack([read(one).tensor for one in inputs_from(calib).entries[-COMPARED:]])
        else:
            images = np.random.default_rng(0).standard_normal(oracles[0].noise(1).shape, dtype=np.float32)
        ours, theirs = (oracle.logits(images).astype(np.float64) for oracle in oracles)
    return {
        "bytes": out.stat().st_size, "bytes_before": network.path.stat().st_size,
        "relative_error": float(np.linalg.norm(ours - theirs) / max(float(np.linalg.norm(ours)), 1e-30)),
        "same_class": float((ours.argmax(axis=1) == theirs.argmax(axis=1)).mean()),
        "compared_on": f"{len(images)} photographs" if calib else "noise",
    }  # fmt: skip


def _text(facts: dict[str, Any]) -> str:
    share = facts["bytes"] / max(facts["bytes_before"], 1)
    return (
        f"{facts['out']}: {facts['to']}, {facts['bytes'] / 1e6:.2f} MB ({share:.0%} of the original). On "
        f"{facts['compared_on']} its scores are {facts['relative_error']:.2%} apart; the highest class is the same "
        f"for {facts['same_class']:.0%}. What that changes: sightline audit."
    )
