"""The network that paints in one pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ENDS = 5  # kernel side of the first and the last convolution; 9, as in the paper, costs a quarter of the time


class Layer(nn.Sequential):
    """Convolution, normalisation of each picture by itself, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        self.norm = nn.InstanceNorm2d(outputs, affine=True)
        self.relu = nn.ReLU()


class Residual(nn.Module):
    """Two 3x3 layers beside a shortcut, nothing behind their sum (Gross, Wilber 2016)."""

    def __init__(self, channels: int):
        super().__init__()
        self.layer = Layer(channels, channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.InstanceNorm2d(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.conv(self.layer(x)))


class Larger(nn.Module):
    """Twice as high and wide: nearest neighbours, then a convolution, so without a chessboard (Odena et al. 2016)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.layer = Layer(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class StyleNetwork(nn.Module):
    """Pictures (B, 3, H, W) of 0 to 1 to paintings likewise; H and W any multiples of 4.

    Johnson, Alahi, Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution" (2016), with
    instance normalisation (Ulyanov, Vedaldi, Lempitsky 2016) and resize-convolutions. Borders are zero: whoever
    applies the network mirrors the picture beyond its edges and cuts them off again.

    Args:
        width: channels at full size; four times as many in the middle.
        blocks: residual ones.
    """

    def __init__(self, width: int, blocks: int):
        super().__init__()
        self.first = Layer(3, width, ENDS)
        self.smaller = nn.Sequential(Layer(width, 2 * width, stride=2), Layer(2 * width, 4 * width, stride=2))
        self.blocks = nn.Sequential(*(Residual(4 * width) for _ in range(blocks)))
        self.larger = nn.Sequential(Larger(4 * width, 2 * width), Larger(2 * width, width))
        self.last = nn.Conv2d(width, 3, ENDS, padding=ENDS // 2)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.smaller(self.first(x * 2 - 1))  # (B, 4 width, H / 4, W / 4)
        return torch.sigmoid(self.last(self.larger(self.blocks(inner))))
