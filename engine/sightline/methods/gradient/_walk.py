"""Attacks that follow slopes: one walk, many images side by side, each until it fools."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.abilities import Differentiable
from sightline.adversarial.attempt import begin
from sightline.adversarial.examples import AdversarialExamples
from sightline.ascent.deployed import deployed
from sightline.methods.gradient._ball import rounded, within
from sightline.methods.gradient._slopes import Climbed, Slopes
from sightline.target import Target
from sightline.types import Batch

Stride = Callable[[Slopes, Tensor, Tensor], tuple[Tensor, Tensor]]  # origins, changes -> margins there, changes then
Settle = Callable[[Tensor, Tensor], Tensor]  # origins, changes -> pictures of whole numbers
HALVINGS = 8  # of a change that fools: to a 256th of it


@dataclass
class Walk:
    """Images (b, C, H, W) on their way, and the best that was found of each.

    Attributes:
        slopes: the network, with the goal of each.
        origin: where they start, whole numbers of 0 to 255.
        planes: whole numbers; the origin until something else is found.
        changes: what ``planes`` were rounded from.
        margins: (b,) of ``planes``, by the twin.
        queries: (b,) evaluations of the network.
        stuck: (b,) True while no stride changed anything.
    """

    slopes: Slopes
    origin: Tensor
    planes: Tensor
    changes: Tensor
    margins: Tensor
    queries: Tensor
    stuck: Tensor

    @classmethod
    def begin(cls, slopes: Slopes, origin: Tensor) -> Walk:
        """Nothing found yet."""
        margins = origin.new_full((len(origin),), -torch.inf)
        return cls(
            slopes, origin, origin.clone(), torch.zeros_like(origin), margins,
            torch.zeros_like(margins, dtype=torch.int64), torch.ones_like(margins, dtype=torch.bool),
        )  # fmt: skip

    @property
    def open(self) -> Tensor:
        """Rows that do not fool yet."""
        return torch.nonzero(self.margins <= self.slopes.slack)[:, 0]

    def go(self, stride: Stride, settle: Settle, steps: int, start: Tensor | None = None) -> None:
        """Stride until the picture fools once it is rounded; such images leave.

        Args:
            stride: one step of all images that are left.
            settle: rounds.
            steps: at most.
            start: (C, H, W) change to begin with.
        """
        rows = self.open
        changes = torch.zeros_like(self.origin[rows])
        if start is not None:
            changes = within(self.origin[rows] + start) - self.origin[rows]
        for _ in range(steps):
            if len(rows) == 0:
                return
            slopes, origin = self.slopes.take(rows), self.origin[rows]
            margins, after = stride(slopes, origin, changes)
            self.queries[rows] += 1
            self.stuck[rows] &= (after == changes).flatten(1).all(dim=1)
            hopeful = margins > slopes.slack
            if hopeful.any():
                self._offer(rows[hopeful], changes[hopeful], settle)
            left = self.margins[rows] <= slopes.slack
            rows, changes = rows[left], after[left]
        if len(rows):
            self._offer(rows, changes, settle)

    def shrink(self) -> None:
        """Make the changes that fool as small as they can be by a factor, rounded anew."""
        rows = torch.nonzero(self.margins > self.slopes.slack)[:, 0]
        if len(rows) == 0:
            return
        slopes, origin, changes = self.slopes.take(rows), self.origin[rows], self.changes[rows]
        low, high = (changes.new_full((len(rows), 1, 1, 1), value) for value in (0.0, 1.0))
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            planes = rounded(origin, middle * changes)
            margins = slopes.margins(planes)
            fools = margins > slopes.slack
            self.planes[rows[fools]], self.margins[rows[fools]] = planes[fools], margins[fools]
            low = torch.where(fools[:, None, None, None], low, middle)
            high = torch.where(fools[:, None, None, None], middle, high)
        self.queries[rows] += HALVINGS

    def _offer(self, rows: Tensor, changes: Tensor, settle: Settle) -> None:
        """Round some images and keep those that are better than what was found."""
        planes = settle(self.origin[rows], changes)
        margins = self.slopes.take(rows).margins(planes)
        self.queries[rows] += 1
        better = margins > self.margins[rows]
        kept = rows[better]
        self.planes[kept], self.changes[kept], self.margins[kept] = planes[better], changes[better], margins[better]


def attack(
    oracle: Differentiable,
    images: Batch,
    target: Target,
    walk: Callable[[Walk], None],
    *,
    climbed: Climbed,
    budget: float = 0.0,
) -> AdversarialExamples:
    """Walk with all images that do not fool as they are, a batch of them at a time, and judge where they end.

    Args:
        oracle: whose twin shows the slopes; ONNX Runtime judges.
        images: model input.
        target: see ``Goal``.
        walk: what to do.
        climbed: see ``Slopes``.
        budget: for the record.
    """
    attempt = begin(deployed(oracle), images, target)
    rows = attempt.open
    batch = oracle.batch_size(len(rows))
    with oracle.tape() as tape:
        for first in range(0, len(rows), batch):
            some = rows[first : first + batch]
            slopes = Slopes(tape, attempt.space, attempt.goal.take(some), climbed)
            state = Walk.begin(slopes, tape.tensor(attempt.planes(some)))
            walk(state)
            attempt.put(some, state.planes.cpu().numpy(), state.queries.cpu().numpy(), budget)
            attempt.stuck[some] = state.stuck.cpu().numpy()
    return attempt.finish()
