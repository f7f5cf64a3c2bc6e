"""What a method explains: a score per image, written as a formula over the model's outputs and inner units.

Targets are values. They add, subtract, multiply and negate, and their repr is the formula that makes them again:

>>> logit(281) - 0.5 * logit(285)
logit(281) - 0.5 * logit(285)
>>> Target.parse("top(2)") == top(2)
True
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from sightline.errors import UnknownName, UsageError

Space = Literal["logit", "probability"]
MATCHES_SHOWN = 5  # classes of one name that an error lists
_CALL = re.compile(r"\b(logit|probability|top|unit)\s*\(")


class Outputs(Protocol):
    """What a route computed for B images, as its own arrays (NumPy or torch).

    Targets only index, add, multiply and call ``mean``: the same formula serves both.
    """

    @property
    def logits(self) -> Any:
        """(B, K) scores before the last softmax or sigmoid."""
        ...

    @property
    def probabilities(self) -> Any:
        """(B, K) after it."""
        ...

    def tap(self, layer: str) -> Any:
        """(B, C, h, w) or (B, D): the output of an inner layer."""
        ...


class Target:
    """A scalar score per image. Build one from ``logit``, ``probability``, ``top`` and ``unit``."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Inner layers whose outputs the score reads, in order, each once."""
        return tuple(dict.fromkeys(layer for part in self._parts() for layer in part.layers))

    @property
    def is_bound(self) -> bool:
        """True when nothing is left that each image would choose for itself."""
        return all(part.is_bound for part in self._parts())

    def bind(self, outputs: Outputs) -> Target:
        """Fix what each image chooses (``top``) by the outputs of the untouched images."""
        return self._map(lambda part: part.bind(outputs))

    def take(self, rows: Sequence[int]) -> Target:
        """The target for a batch whose row i repeats the choice of row ``rows[i]`` of the bound batch."""
        return self._map(lambda part: part.take(rows))

    def value(self, outputs: Outputs) -> Any:
        """(B,) scores as an array of the route's kind."""
        raise TypeError(f"{type(self).__name__} has no value of its own.")

    def classes(self, count: int) -> tuple[int | None, ...]:
        """The class each of ``count`` images is explained for, None where there is no single one."""
        found = [part.classes(count) for part in self._parts()]
        return found[0] if len(found) == 1 else (None,) * count

    def map_layers(self, rename: Callable[[str], str]) -> Target:
        """The same formula with every layer renamed."""
        return self._map(lambda part: part.map_layers(rename))

    def check(self, classes: int, images: int | None = None) -> None:
        """Raise UsageError unless every class index lies within K = ``classes``, one for all or each."""
        for part in self._parts():
            part.check(classes, images)

    def _parts(self) -> tuple[Target, ...]:
        return ()

    def _map(self, change: Callable[[Target], Target]) -> Target:
        return self

    def __add__(self, other: Target) -> Target:
        return Sum(self, other)

    def __sub__(self, other: Target) -> Target:
        return Sum(self, -other)

    def __neg__(self) -> Target:
        return Scaled(self, -1.0)

    def __mul__(self, factor: float) -> Target:
        if not math.isfinite(factor):
            raise UsageError(f"A score cannot be multiplied by {factor}: give a finite number.")
        return Scaled(self, float(factor))

    __rmul__ = __mul__

    @staticmethod
    def parse(text: str, labels: Sequence[str] = ()) -> Target:
        """Read ``top``, a class index, a label or a formula such as ``logit(281) - logit(285)``.

        Raises:
            UnknownName: if the text is neither a formula nor a label of the model.
            UsageError: if a formula cannot be read.
        """
        text = text.strip()
        if text == "top":
            return top(1)
        if re.fullmatch(r"-?[0-9]+", text):
            return logit(int(text))
        matches = [index for index, label in enumerate(labels) if label.casefold() == text.casefold()]
        if len(matches) > 1:
            several = " and ".join(map(str, matches[:MATCHES_SHOWN]))
            more = f" and {len(matches) - MATCHES_SHOWN} more" if len(matches) > MATCHES_SHOWN else ""
            raise UsageError(f"Label {text!r} names classes {several}{more}: say which by its index.")
        if matches:
            return logit(matches[0])
        if _CALL.search(text):
            try:
                return _formula(ast.parse(text, mode="eval").body, text)
            except (SyntaxError, RecursionError):
                raise _no_formula(text) from None
        if labels:
            raise UnknownName("label", text, labels)
        raise UsageError(
            f"Target {text!r} is neither an index nor a formula, and the model carries no labels. Pass "
            "'top', a class index, a formula such as 'logit(281) - logit(285)', or --labels FILE."
        )


@dataclass(frozen=True)
class ClassScore(Target):
    """Score of one class for all images, or of one class each."""

    index: int | tuple[int, ...]
    space: Space = "logit"

    @property
    def is_bound(self) -> bool:
        return True

    def bind(self, outputs: Outputs) -> Target:
        self.check(outputs.logits.shape[1], len(outputs.logits))
        return self

    def take(self, rows: Sequence[int]) -> Target:
        if isinstance(self.index, int):
            return self
        return replace(self, index=tuple(self.index[row] for row in rows))

    def value(self, outputs: Outputs) -> Any:
        scores = outputs.logits if self.space == "logit" else outputs.probabilities
        if isinstance(self.index, int):
            return scores[:, self.index]
        return scores[list(range(len(self.index))), list(self.index)]

    def classes(self, count: int) -> tuple[int | None, ...]:
        return (self.index,) * count if isinstance(self.index, int) else self.index

    def check(self, classes: int, images: int | None = None) -> None:
        if not isinstance(self.index, int) and images is not None and len(self.index) != images:
            raise UsageError(f"{self!r} names {len(self.index)} classes for {images} images.")
        for index in (self.index,) if isinstance(self.index, int) else self.index:
            if not 0 <= index < classes:
                raise UsageError(f"Class {index} does not exist: the model has classes 0 to {classes - 1}.")

    def __repr__(self) -> str:
        return f"{self.space}({self.index})"


@dataclass(frozen=True)
class Top(Target):
    """Score of the class that stands at this rank for each image, 1 the highest; ties go to the lower index."""

    rank: int = 1
    of: Space = "logit"

    @property
    def is_bound(self) -> bool:
        return False

    def bind(self, outputs: Outputs) -> Target:
        logits = as_numpy(outputs.logits)
        self.check(logits.shape[1])
        order = np.argsort(-logits, axis=1, kind="stable")
        return ClassScore(tuple(int(index) for index in order[:, self.rank - 1]), self.of)

    def value(self, outputs: Outputs) -> Any:
        return self.bind(outputs).value(outputs)

    def classes(self, count: int) -> tuple[int | None, ...]:
        return (None,) * count

    def check(self, classes: int, images: int | None = None) -> None:
        if not 1 <= self.rank <= classes:
            raise UsageError(f"top({self.rank}) does not exist: the model has ranks 1 to {classes}.")

    def __repr__(self) -> str:
        return f"top({self.rank})" if self.of == "logit" else f"top({self.rank}, of={self.of!r})"


@dataclass(frozen=True)
class Unit(Target):
    """Activation of one channel of an inner layer: at one position, or the mean over all."""

    layer: str
    channel: int
    position: tuple[int, int] | None = None

    @property
    def layers(self) -> tuple[str, ...]:
        return (self.layer,)

    def map_layers(self, rename: Callable[[str], str]) -> Target:
        return replace(self, layer=rename(self.layer))

    @property
    def is_bound(self) -> bool:
        return True

    def value(self, outputs: Outputs) -> Any:
        activation = outputs.tap(self.layer)  # (B, C, h, w) or (B, D)
        channels = activation.shape[1]
        if not 0 <= self.channel < channels:
            raise UsageError(f"Layer {self.layer!r} has channels 0 to {channels - 1}, not {self.channel}.")
        channel = activation[:, self.channel]  # (B, h, w) or (B,)
        if self.position is None:
            return channel if channel.ndim == 1 else channel.mean(tuple(range(1, channel.ndim)))
        if channel.ndim != 3 or not all(0 <= p < n for p, n in zip(self.position, channel.shape[1:], strict=True)):
            raise UsageError(
                f"Position {self.position} is outside layer {self.layer!r} of {tuple(channel.shape[1:])} positions."
            )
        return channel[:, self.position[0], self.position[1]]

    def classes(self, count: int) -> tuple[int | None, ...]:
        return (None,) * count

    def __repr__(self) -> str:
        place = "" if self.position is None else f", position={self.position}"
        return f"unit({self.layer!r}, channel={self.channel}{place})"


@dataclass(frozen=True)
class Sum(Target):
    """Two targets added."""

    left: Target
    right: Target

    def value(self, outputs: Outputs) -> Any:
        return self.left.value(outputs) + self.right.value(outputs)

    def _parts(self) -> tuple[Target, ...]:
        return (self.left, self.right)

    def _map(self, change: Callable[[Target], Target]) -> Target:
        return Sum(change(self.left), change(self.right))

    def __repr__(self) -> str:
        if isinstance(self.right, Scaled) and self.right.factor == -1.0:
            subtracted = self.right.part
            return f"{self.left!r} - {_grouped(subtracted)}"
        return f"{self.left!r} + {_grouped(self.right)}"


@dataclass(frozen=True)
class Scaled(Target):
    """A target times a number."""

    part: Target
    factor: float

    def value(self, outputs: Outputs) -> Any:
        return self.part.value(outputs) * self.factor

    def classes(self, count: int) -> tuple[int | None, ...]:
        return self.part.classes(count)

    def _parts(self) -> tuple[Target, ...]:
        return (self.part,)

    def _map(self, change: Callable[[Target], Target]) -> Target:
        return Scaled(change(self.part), self.factor)

    def __repr__(self) -> str:
        inner = f"({self.part!r})" if isinstance(self.part, Sum | Scaled) else repr(self.part)
        return f"-{inner}" if self.factor == -1.0 else f"{repr(self.factor).removesuffix('.0')} * {inner}"


def _grouped(part: Target) -> str:
    needs = isinstance(part, Sum) or (isinstance(part, Scaled) and part.factor < 0)
    return f"({part!r})" if needs else repr(part)


def logit(index: int | tuple[int, ...]) -> Target:
    """Score of a class before softmax (or of one class per image)."""
    return ClassScore(_class_index(index), "logit")


def probability(index: int | tuple[int, ...]) -> Target:
    """Probability of a class, 0 to 1 (or of one class per image)."""
    return ClassScore(_class_index(index), "probability")


def top(rank: int = 1, of: Space = "logit") -> Target:
    """Score of the class that each image itself ranks at this place, 1 the highest."""
    if of not in ("logit", "probability"):
        raise UsageError(f"top(of={of!r}) is not a score. Accepted: 'logit', 'probability'.")
    return Top(_whole("rank", rank), of)


def unit(layer: str, channel: int, position: tuple[int, int] | None = None) -> Target:
    """Activation of a channel of an inner layer, the mean over positions unless one is given."""
    if not isinstance(layer, str):  # pyright: ignore[reportUnnecessaryIsInstance] - formulas come from command lines
        raise UsageError(f"unit(layer={layer!r}) is no name of a layer: put it in quotes.")
    place = None if position is None else tuple(_whole("position", p) for p in position)
    if place is not None and len(place) != 2:
        raise UsageError(f"unit(position={position!r}) is no place: give (row, column).")
    return Unit(layer, _whole("channel", channel), place)


def _class_index(index: Any) -> int | tuple[int, ...]:
    if isinstance(index, tuple | list | np.ndarray):
        return tuple(_whole("index", one) for one in cast("Sequence[Any]", index))
    return _whole("index", index)


def _whole(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise UsageError(f"{name}={value!r} is no whole number.") from None


def needs_classes(target: Target) -> bool:
    """Whether any part of the formula reads class scores."""
    match target:
        case Unit():
            return False
        case Sum(left=left, right=right):
            return needs_classes(left) or needs_classes(right)
        case Scaled(part=part):
            return needs_classes(part)
        case _:
            return True


def class_scores(target: Target) -> tuple[ClassScore, ...]:
    """Every class score that the formula reads."""
    match target:
        case ClassScore():
            return (target,)
        case Sum(left=left, right=right):
            return (*class_scores(left), *class_scores(right))
        case Scaled(part=part):
            return class_scores(part)
        case _:
            return ()


def as_numpy(array: Any) -> NDArray[Any]:
    """A NumPy view or copy of a route's array, cut from any gradient tape."""
    if isinstance(array, np.ndarray):
        return cast("NDArray[Any]", array)
    return cast("NDArray[Any]", array.detach().cpu().numpy())


def _formula(tree: ast.expr, text: str) -> Target:
    """Build a target from a parsed formula; only the four makers, + - * and numbers are read."""
    makers: dict[str, Callable[..., Target]] = {
        "logit": logit, "probability": probability, "top": top, "unit": unit
    }  # fmt: skip
    match tree:
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if name in makers:
            try:
                values = [ast.literal_eval(argument) for argument in args]
                named = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in keywords}
                return makers[name](*values, **named)
            except UsageError as reason:
                raise UsageError(f"Target {text!r}: {reason}") from None
            except (TypeError, ValueError) as reason:
                raise UsageError(f"Target {text!r}: {name}(…) does not take these arguments ({reason}).") from None
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _formula(left, text) + _formula(right, text)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _formula(left, text) - _formula(right, text)
        case ast.BinOp(left=left, op=ast.Mult(), right=right) if (factor := _number(left)) is not None:
            return _formula(right, text) * factor
        case ast.BinOp(left=left, op=ast.Mult(), right=right) if (factor := _number(right)) is not None:
            return _formula(left, text) * factor
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_formula(operand, text)
        case _:
            raise _no_formula(text)


def _number(tree: ast.expr) -> float | None:
    match tree:
        case ast.Constant(value=float() | int() as number):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=float() | int() as number)):
            return -number
        case _:
            return None


def _no_formula(text: str) -> UsageError:
    return UsageError(
        f"Target {text!r} is not a formula. It may hold logit(INDEX), probability(INDEX), top(RANK), "
        "unit('LAYER', channel=INDEX), numbers times a score, and + - *."
    )
