"""From a trained network to an ONNX file that takes pictures of any size."""

from __future__ import annotations

from pathlib import Path

import torch

from sightline.styles.training.network import StyleNetwork
from sightline_exporters import export
from sightline_exporters.parity import measure

TOLERANCE = 1e-4  # relative


def export_network(network: StyleNetwork, path: Path, side: int) -> str:
    """Write the network with open batch, height and width; returns how well the file agrees with torch.

    It is compared at the training's size and at another one.

    Raises:
        ParityFailed: it computes something else; what was there before is left.
    """
    example = torch.rand(2, 3, side, side + 8)
    done = export(network.cpu(), path, example=example, exporter="torchscript", open_size=True, tolerance=TOLERANCE)
    other = torch.rand(2, 3, 2 * side - 4, side // 2 // 4 * 4 + 4)
    elsewhere = measure(network.eval(), path.read_bytes(), other, seed=1)
    if not elsewhere.difference <= TOLERANCE:
        path.unlink()
        raise ArithmeticError(f"The exported graph computes something else at {tuple(other.shape)}: {elsewhere}.")
    return f"{done.parity}; at another size {elsewhere.difference:.2e}"
