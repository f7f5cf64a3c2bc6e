"""From a trained network to an ONNX file that takes pictures of any size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch

from sightline.graph.mix_norm import SHARES
from sightline.job.files import write_atomically
from sightline.styles.style import STYLES
from sightline.styles.training.network import StyleNetwork
from sightline_exporters import export
from sightline_exporters.parity import measure

TOLERANCE = 1e-4  # relative


def export_network(network: StyleNetwork, path: Path, side: int, names: Sequence[str] = ()) -> str:
    """Write the network with open batch, height and width; returns how well the file agrees with torch.

    It is compared at the training's size and at another one; of several styles first the last one pure, then a mix
    of all.

    Args:
        network: of one style or several.
        path: of the file.
        side: of the training pictures.
        names: of several styles, which the file holds beside its second input, ``shares`` (N,).

    Raises:
        ParityFailed: it computes something else; what was there before is left.
    """
    count = network.styles
    assert len(names) == (count if count > 1 else 0)
    pure = {SHARES: torch.eye(count)[-1]} if count > 1 else {}
    uneven = {SHARES: torch.arange(1.0, count + 1) / (count * (count + 1) / 2)} if count > 1 else {}
    example = torch.rand(2, 3, side, side + 8)
    done = export(
        network.cpu(), path, example=example, exporter="torchscript", open_size=True, tolerance=TOLERANCE,
        further=pure,
    )  # fmt: skip
    other = torch.rand(2, 3, 2 * side - 4, side // 2 // 4 * 4 + 4)
    elsewhere = measure(network.eval(), path.read_bytes(), other, seed=1, further=uneven)
    if not elsewhere.difference <= TOLERANCE:
        path.unlink()
        raise ArithmeticError(f"The exported graph computes something else at {tuple(other.shape)}: {elsewhere}.")
    if names:
        file = onnx.load(path)
        file.metadata_props.add(key=STYLES, value=json.dumps(list(names), ensure_ascii=False))
        write_atomically(path, [file.SerializeToString()])
    return f"{done.parity}; at another size{' and of a mix' if names else ''} {elsewhere.difference:.2e}"
