"""The network that paints in one pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ENDS = 5  # kernel side of the first and the last convolution; 9, as in the paper, costs a quarter of the time


class ConditionalNorm(nn.Module):
    """Normalisation of each picture by itself, with a row of scales and a row of shifts (N, C) for each style.

    Dumoulin, Shlens, Kudlur, "A Learned Representation for Artistic Style" (2017): the styles of a network share all
    but these rows, and a mix of styles is the mean of their rows, weighted by its shares.
    """

    def __init__(self, channels: int, styles: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(styles, channels))
        self.bias = nn.Parameter(torch.zeros(styles, channels))

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        """Shares (N,) are those of all pictures, (B, N) of each."""
        scale, shift = shares @ self.weight, shares @ self.bias  # (C,) or (B, C)
        if shares.ndim == 1:  # as ONNX has it, so that what is exported is one instance normalisation
            return F.instance_norm(x, weight=scale, bias=shift)
        return F.instance_norm(x) * scale[:, :, None, None] + shift[:, :, None, None]


def normalisation(channels: int, styles: int) -> nn.Module:
    """Of one style the plain one."""
    return nn.InstanceNorm2d(channels, affine=True) if styles == 1 else ConditionalNorm(channels, styles)


def _normalised(norm: nn.Module, x: Tensor, shares: Tensor | None) -> Tensor:
    return norm(x) if shares is None else norm(x, shares)


class Layer(nn.Module):
    """Convolution, normalisation of each picture by itself, ReLU."""

    def __init__(self, inputs: int, outputs: int, styles: int, kernel: int = 3, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        self.norm = normalisation(outputs, styles)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor, shares: Tensor | None) -> Tensor:
        return self.relu(_normalised(self.norm, self.conv(x), shares))


class Residual(nn.Module):
    """Two 3x3 layers beside a shortcut, nothing behind their sum (Gross, Wilber 2016)."""

    def __init__(self, channels: int, styles: int):
        super().__init__()
        self.layer = Layer(channels, channels, styles)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = normalisation(channels, styles)

    def forward(self, x: Tensor, shares: Tensor | None) -> Tensor:
        return x + _normalised(self.norm, self.conv(self.layer(x, shares)), shares)


class Larger(nn.Module):
    """Twice as high and wide: nearest neighbours, then a convolution, so without a chessboard (Odena et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, styles: int):
        super().__init__()
        self.layer = Layer(inputs, outputs, styles)

    def forward(self, x: Tensor, shares: Tensor | None) -> Tensor:
        return self.layer(F.interpolate(x, scale_factor=2.0, mode="nearest"), shares)


class StyleNetwork(nn.Module):
    """Pictures (B, 3, H, W) of 0 to 1 to paintings likewise; H and W any multiples of 4.

    Johnson, Alahi, Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution" (2016), with
    instance normalisation (Ulyanov, Vedaldi, Lempitsky 2016), conditional where there are several styles, and
    resize-convolutions. Borders are zero: whoever applies the network mirrors the picture beyond its edges and cuts
    them off again.

    Args:
        width: channels at full size; four times as many in the middle.
        blocks: residual ones.
        styles: N that it learns.
    """

    def __init__(self, width: int, blocks: int, styles: int = 1):
        super().__init__()
        self.styles = styles
        self.first = Layer(3, width, styles, ENDS)
        self.smaller = nn.ModuleList(
            [Layer(width, 2 * width, styles, stride=2), Layer(2 * width, 4 * width, styles, stride=2)]
        )
        self.blocks = nn.ModuleList([Residual(4 * width, styles) for _ in range(blocks)])
        self.larger = nn.ModuleList([Larger(4 * width, 2 * width, styles), Larger(2 * width, width, styles)])
        self.last = nn.Conv2d(width, 3, ENDS, padding=ENDS // 2)

    def forward(self, x: Tensor, shares: Tensor | None = None) -> Tensor:
        """Shares (N,) or (B, N), each of sum 1, of a network of several styles; none of one style's."""
        x = self.first(x * 2 - 1, shares)
        for part in (*self.smaller, *self.blocks, *self.larger):
            x = part(x, shares)  # inside: (B, 4 width, H / 4, W / 4)
        return torch.sigmoid(self.last(x))
