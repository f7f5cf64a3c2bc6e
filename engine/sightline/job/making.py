"""Makes one shard: decodes, explains batch by batch, and sets aside what cannot be explained."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.errors import BadImage, BadModel, SightlineError, UsageError
from sightline.job.inputs import Input, Loaded
from sightline.job.manifest import JobHeader, SetAside
from sightline.job.memory import OutOfMemory, is_out_of_memory
from sightline.job.rows import Rows
from sightline.types import Batch, Result

Explain = Callable[[Batch], Result]
Item = tuple[int, Input]  # position among the inputs, and the input
LOGGER = logging.getLogger("sightline")
MOST_IN_A_ROW = 8  # single inputs that may fail one after the other before it is not theirs


@dataclass(frozen=True)
class MadeShard:
    """Rows of a shard, not on disk yet.

    Attributes:
        index: of the shard.
        values: (N, …).
        table: columns of N values each.
        set_aside: its inputs without a row, in order.
        batch: that was used where the job's did not fit the memory, else None.
    """

    index: int
    values: NDArray[Any]
    table: Mapping[str, Sequence[object]]
    set_aside: Sequence[SetAside]
    batch: int | None


class ShardMaker:
    """Explains inputs in batches of the job's size, smaller from where one does not fit the memory.

    Args:
        header: of the job.
        explain: the method's result for a batch. Where it has a method ``shrink() -> bool``, that is asked for a way
            to do with less memory when a single image is too much; False says that there is none.
        labels: names of the classes.
        kept: told every result.
    """

    def __init__(
        self,
        header: JobHeader,
        explain: Explain,
        labels: Sequence[str] = (),
        kept: Callable[[Result], None] | None = None,
    ):
        self.header, self.explain, self.labels, self.kept = header, explain, labels, kept
        self.batch = header.batch
        self._explained = self._failed_in_a_row = 0
        self._aside: list[SetAside] = []
        self._index = 0

    @property
    def aside_count(self) -> int:
        """Inputs of the shard at hand that were set aside so far."""
        return len(self._aside)

    def make(
        self,
        index: int,
        loaded: Iterator[tuple[Item, Loaded | BadImage]],
        count: int,
        advanced: Callable[[int], None],
    ) -> MadeShard:
        """The shard of the next ``count`` inputs.

        Args:
            index: of the shard.
            loaded: inputs, each loaded or with the reason why not.
            count: of the shard's inputs.
            advanced: told how many more are finished.

        Raises:
            UsageError: images of different sizes.
            OutOfMemory: a single image does not fit.
        """
        self._aside, self._index = [], index
        rows, used = Rows(self.header, self.labels), self.batch
        group: list[tuple[int, Input, Loaded]] = []  # decoded, not explained yet
        for _ in range(count):
            (position, one), made = next(loaded)
            if isinstance(made, BadImage):
                self._set_aside(one, position, str(made))
                advanced(1)
            else:
                group.append((position, one, made))
            if len(group) == self.header.batch:
                self._explain(group, rows)
                advanced(len(group))
                group = []
        if group:
            self._explain(group, rows)
            advanced(len(group))
        aside, self._aside = sorted(self._aside, key=lambda one: one.position), []
        used = min(used, self.batch)
        return MadeShard(index, *rows.finish(), aside, used if used < self.header.batch else None)

    def _explain(self, group: Sequence[tuple[int, Input, Loaded]], rows: Rows) -> None:
        left = list(group)
        while left:
            chunk = left[: self.batch]
            batch = stacked(chunk)
            try:
                result = self.explain(batch)
            except Exception as reason:
                if is_out_of_memory(reason):
                    self._halve(len(chunk), reason)
                elif _may_be_an_inputs_fault(reason):
                    failed = self._failing(chunk, reason)
                    left = [entry for entry in left if entry[0] not in failed]
                else:
                    raise
                continue
            for row, words in rows.add(result, batch).items():
                self._set_aside(chunk[row][1], chunk[row][0], words)
            if self.kept is not None:
                self.kept(result)
            self._explained += len(chunk)
            self._failed_in_a_row = 0
            left = left[len(chunk) :]

    def _halve(self, size: int, reason: Exception) -> None:
        gc.collect()
        if size > 1:
            self.batch = size // 2
            LOGGER.info("memory did not suffice for %d images at once: %d from here on", size, self.batch)
            return
        shrink: Callable[[], bool] | None = getattr(self.explain, "shrink", None)
        if shrink is None or not shrink():
            raise OutOfMemory(
                f"One image alone does not fit the memory: {reason} Choose a smaller --size or --memory, another "
                "device, or fewer --workers."
            ) from reason

    def _failing(self, chunk: Sequence[tuple[int, Input, Loaded]], reason: Exception) -> set[int]:
        """Set aside the inputs on which the method fails, found by halving; their positions.

        Raises:
            Exception: ``reason``, where every one fails, or none alone: that is no input's fault.
        """
        found = self._alone(chunk, reason)
        self._failed_in_a_row += len(found)
        lone = len(chunk) == 1 and self._explained > 0 and self._failed_in_a_row <= MOST_IN_A_ROW
        if not found or (len(found) == len(chunk) and not lone):
            raise reason
        for position, (one, why) in found.items():
            self._set_aside(one, position, f"The method fails on it: {type(why).__name__}: {why}")
        return set(found)

    def _alone(
        self, chunk: Sequence[tuple[int, Input, Loaded]], reason: Exception
    ) -> dict[int, tuple[Input, Exception]]:
        """Which of the inputs the method fails on, given that it fails on all together."""
        if len(chunk) == 1:
            return {chunk[0][0]: (chunk[0][1], reason)}
        found: dict[int, tuple[Input, Exception]] = {}
        for part in (chunk[: len(chunk) // 2], chunk[len(chunk) // 2 :]):
            try:
                self.explain(stacked(part))
            except Exception as again:
                if is_out_of_memory(again) or not _may_be_an_inputs_fault(again):
                    raise
                found |= self._alone(part, again)
        return found

    def _set_aside(self, one: Input, position: int, reason: str) -> None:
        self._aside.append(SetAside(one.id, one.place, reason, position, self._index))


def stacked(group: Sequence[tuple[int, Input, Loaded]]) -> Batch:
    """(B, C, H, W) of B loaded inputs.

    Raises:
        UsageError: they differ in shape, or do not carry the id of their input.
    """
    first = group[0][2].tensor.shape
    for _, one, loaded in group:
        if loaded.photo.id != one.id:
            raise UsageError(f"Input {one.id!r} was loaded as {loaded.photo.id!r}: a photo keeps its input's id.")
        if loaded.tensor.shape != first:
            raise UsageError(
                f"{one.id} is {loaded.tensor.shape} in model input space, those before are {first}. Images of one "
                "job must be brought to one size: choose one with --size."
            )
    tensor = np.stack([loaded.tensor for _, _, loaded in group])
    return Batch(tensor, tuple(loaded.photo for _, _, loaded in group))


def _may_be_an_inputs_fault(reason: Exception) -> bool:
    """False for what every input would meet: a wrong call, a full disk, a missing library."""
    return isinstance(reason, BadImage | BadModel) or not isinstance(reason, SightlineError | OSError)
