"""Rules of layer-wise relevance propagation: which layer shares its relevance among its inputs in which way.

Bach, Binder, Montavon, Klauschen, Müller, Samek, "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by
Layer-Wise Relevance Propagation" (2015); rules and composites as in Montavon, Binder, Lapuschkin, Samek, Müller,
"Layer-Wise Relevance Propagation: An Overview" (2019). What computes them is ``sightline.twin.relevance``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Epsilon:
    """The layer's own contributions; the composite's epsilon absorbs relevance where they cancel."""


@dataclass(frozen=True)
class Gamma:
    """Positive weights count ``gamma`` more; for inputs that are not negative."""

    gamma: float


@dataclass(frozen=True)
class ZPlus:
    """Positive contributions only, those of negative inputs through negative weights too; no relevance to biases."""


@dataclass(frozen=True)
class Flat:
    """Every input of a unit gets the same share."""


@dataclass(frozen=True)
class Box:
    """Contributions beyond what the darkest and brightest pixel could give: for the layer that reads the image.

    Attributes:
        low, high: per channel, in model input space.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]


LayerRule = Epsilon | Gamma | ZPlus | Flat | Box


@dataclass(frozen=True)
class Composite:
    """A rule for every layer, by its depth and kind.

    Attributes:
        convolution: depths in rising order, the last 1, and the rule up to each; 0 is the layer that reads the image.
        dense: rule of matrix products.
        epsilon: above 0, in units of a layer's output: absorbs relevance where contributions cancel.
        biases: whether a bias takes its share, which is lost to the inputs.
    """

    convolution: tuple[tuple[float, LayerRule], ...]
    dense: LayerRule
    epsilon: float
    biases: bool = True
