"""The input that an export is made with, and one run of the module on it."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from typing import Any

import torch

from sightline_exporters.errors import BadRequest, ConversionFailed
from sightline_exporters.parity import flatten
from sightline_exporters.sources import Source

Size = int | tuple[int, int]  # of a square, or (height, width); pixels


def make_example(source: Source, example: torch.Tensor | None, size: Size | None) -> torch.Tensor:
    """(B, C, H, W) on the module's device, B at least 2."""
    tensors = [*source.module.parameters(), *source.module.buffers()]
    floating = [tensor for tensor in tensors if tensor.is_floating_point()]
    device = tensors[0].device if tensors else torch.device("cpu")
    if example is None:
        chosen = (size, size) if isinstance(size, int) else size or source.size
        if chosen is None:
            raise BadRequest(
                f"{source.description} does not say its input's size. Pass example=(B, C, H, W) or size."
            )
        dtype = floating[0].dtype if floating else torch.float32
        generator = torch.Generator().manual_seed(0)
        example = torch.randn((2, source.channels, *chosen), generator=generator).to(dtype)
    elif size is not None:
        raise BadRequest("example and size exclude each other. Pass one of them.")
    if example.ndim != 4 or not example.is_floating_point():
        raise BadRequest(
            f"The example is {example.dtype} of shape {tuple(example.shape)}; a floating (B, C, H, W) is needed."
        )
    if example.shape[0] < 2:
        example = example.repeat(2, 1, 1, 1)
    return example.detach().to(device)


@contextlib.contextmanager
def evaluation(module: torch.nn.Module) -> Generator[None]:
    """Evaluation mode, and afterwards for every submodule the mode that it had."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def run_once(module: torch.nn.Module, example: torch.Tensor, *further: torch.Tensor) -> Any:
    """What the module puts out; refused where it does not run or is not finite."""
    shape = tuple(example.shape)
    try:
        with torch.no_grad():
            answer = module(example, *further)
    except Exception as reason:  # the module is the caller's: it may raise anything
        raise ConversionFailed(
            f"{type(module).__name__} does not run on an input of shape {shape}: {reason}\n"
            "Pass another size, or an example as the module takes it."
        ) from reason
    tensors = flatten(answer)
    if not tensors:
        raise ConversionFailed(f"{type(module).__name__} returns no tensor, but {type(answer).__name__}.")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise ConversionFailed(f"{type(module).__name__} returns NaN or infinity for an input of shape {shape}.")
    return answer


def output_names(answer: Any) -> list[str]:
    """Keys of a mapping; for one tensor "logits" if it is (B, K), else "output"; else numbered."""
    tensors = flatten(answer)
    if isinstance(answer, Mapping) and len(answer) == len(tensors):
        return [str(key) for key in answer]
    if len(tensors) == 1:
        return ["logits" if tensors[0].ndim == 2 else "output"]
    return [f"output_{index}" for index in range(len(tensors))]
