"""Does ONNX Runtime compute what torch computes? Measured on fresh random inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

BATCHES = (1, 3)  # one image, and an odd number that no exporter's example had


@dataclass(frozen=True)
class Parity:
    """How far the file's outputs are from the module's.

    Attributes:
        difference: max |onnx - torch| / max |torch|, the largest over outputs and batches; NaN or inf where one is.
        top1: fraction of images with the same largest class; None where the first output is no (B, K).
        batches: the batch sizes that were run.
        seed: of the inputs, which are standard normal.
    """

    difference: float
    top1: float | None
    batches: tuple[int, ...]
    seed: int

    def __str__(self) -> str:
        agreement = "" if self.top1 is None else f", top-1 agreement {self.top1:.0%}"
        batches = " and ".join(map(str, self.batches))
        return (
            f"largest relative difference {self.difference:.2e}{agreement} (batches of {batches}, seed {self.seed})"
        )


def measure(
    module: torch.nn.Module,
    file: bytes,
    example: torch.Tensor,
    *,
    seed: int,
    further: Mapping[str, torch.Tensor] | None = None,
) -> Parity:
    """Run both on the same inputs.

    Args:
        module: in evaluation mode.
        file: the ONNX file's bytes.
        example: (B, C, H, W); shape, dtype and device of the inputs.
        seed: of the inputs.
        further: inputs behind the images, by name, given as they are.

    Raises:
        onnxruntime's errors: where the file does not load or does not run at one of the batch sizes.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: they are raised as well
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name, beside = session.get_inputs()[0].name, dict(further or {})
    fed = {key: tensor.cpu().numpy() for key, tensor in beside.items()}
    generator = torch.Generator().manual_seed(seed)
    differences: list[float] = []
    agreements: list[NDArray[np.bool_]] = []
    for batch in BATCHES:
        images = torch.randn((batch, *example.shape[1:]), generator=generator).to(example)  # (B, C, H, W)
        with torch.no_grad():
            expected = [tensor.detach().cpu().numpy() for tensor in flatten(module(images, *beside.values()))]
        found = [np.asarray(array) for array in session.run(None, {name: images.cpu().numpy(), **fed})]
        differences += [relative_difference(a, b) for a, b in zip(found, expected, strict=True)]
        if expected[0].ndim == 2 and expected[0].shape == found[0].shape:
            agreements.append(found[0].argmax(1) == expected[0].argmax(1))  # (B,)
    top1 = float(np.concatenate(agreements).mean()) if agreements else None
    return Parity(float(np.max(differences)), top1, BATCHES, seed)


def relative_difference(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Max |found - expected| / max |expected|; infinite where the shapes differ, absolute where all of expected is 0.

    >>> relative_difference(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    0.5
    """
    if found.shape != expected.shape:
        return float("inf")
    if expected.size == 0:
        return 0.0
    expected = expected.astype(np.float64)
    scale = float(np.abs(expected).max())
    return float(np.abs(found.astype(np.float64) - expected).max()) / (scale or 1.0)


def flatten(output: Any) -> list[torch.Tensor]:
    """The tensors of a module's output, in the order in which exporters number them."""
    if isinstance(output, torch.Tensor):
        return [output]
    if isinstance(output, Mapping):
        output = list(cast("Mapping[str, Any]", output).values())
    parts = cast("Sequence[Any]", output) if isinstance(output, list | tuple) else ()
    return [tensor for part in parts for tensor in flatten(part)]
