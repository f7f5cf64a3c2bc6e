"""The style in the box in torch's eager mode: what it is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch

from on_gpu.kernels import set_tf32
from sightline.styles.style import GRAPH, OWN
from sightline.styles.training.network import StyleNetwork


def eager() -> StyleNetwork:
    """The network in torch, its weights read from its file."""
    graph = onnx.load(OWN / GRAPH).graph
    weights = {one.name: torch.from_numpy(onnx.numpy_helper.to_array(one).copy()) for one in graph.initializer}
    width = weights["first.conv.weight"].shape[0]
    module = StyleNetwork(width, sum(name.endswith("layer.conv.weight") for name in weights if "blocks" in name))
    module.load_state_dict({name: weights[name] for name in module.state_dict()})
    return module.eval()


@torch.inference_mode()
def by_eager(module: Any, picture: Any, tf32: bool) -> Any:
    """Bytes to bytes, mirrored with the edge doubled, as ours."""
    set_tf32(tf32)
    weight = next(module.parameters())
    pixels = torch.from_numpy(picture).to(weight.device).permute(2, 0, 1)[None].float() / 255
    for axis in (2, 3):
        length = picture.shape[axis - 2]
        extra = -(length + 32) % 4  # sides are multiples of four
        places = torch.arange(-16, length + 16 + extra, device=weight.device) % (2 * length)
        pixels = pixels.index_select(axis, torch.where(places < length, places, 2 * length - 1 - places))
    layout = (
        torch.channels_last if weight.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    )
    painted = module(pixels.contiguous(memory_format=layout))[
        0, :, 16 : 16 + picture.shape[0], 16 : 16 + picture.shape[1]
    ]
    return np.asarray((painted.permute(1, 2, 0) * 255).round().clamp(0, 255).byte().cpu().numpy())
