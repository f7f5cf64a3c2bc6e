"""Copies to and from a GPU that go on while it computes: through pinned memory, on a stream of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def _pinned(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, pin_memory=True)


class Transfers:
    """Carries arrays between the host and one device; on the CPU there is nothing to carry.

    Order of work: a tensor that was brought is not read before its copy is done (the computing stream waits for an
    event, the host does not); a tensor that is sent is not copied before it is computed; memory is not given to
    others while the stream that did not allocate it still reads it.

    Args:
        device: where tensors are wanted.
        cuda: torch's module of streams and events.
        pinned: makes host memory that the device reads by itself.
    """

    def __init__(
        self,
        device: torch.device,
        cuda: Any = torch.cuda,
        pinned: Callable[[torch.Size, torch.dtype], Tensor] = _pinned,
    ):
        self._device, self._cuda, self._pinned = device, cuda, pinned
        self._stream: Any = cuda.Stream(device=device) if device.type == "cuda" else None

    def bring(self, array: NDArray[Any]) -> Callable[[], Tensor]:
        """Begin to copy an array to the device; what is returned gives the tensor to the stream that computes."""
        there = torch.from_numpy(np.ascontiguousarray(array))
        if self._stream is None:
            return lambda: there
        held = self._pinned(there.shape, there.dtype).copy_(there)
        with self._cuda.stream(self._stream):
            tensor = held.to(self._device, non_blocking=True)
            done = self._stream.record_event()

        def arrived() -> Tensor:
            current = self._cuda.current_stream(self._device)
            current.wait_event(done)
            tensor.record_stream(current)
            return tensor

        return arrived

    def send(self, tensor: Tensor) -> Callable[[], NDArray[Any]]:
        """Begin to copy a tensor to the host once it is computed; what is returned waits for it."""
        given = tensor.detach()
        given = given.float() if given.dtype == torch.bfloat16 else given  # NumPy has none
        if self._stream is None:
            return lambda: np.asarray(given.numpy())
        made = self._cuda.current_stream(self._device).record_event()
        with self._cuda.stream(self._stream):
            self._stream.wait_event(made)
            held = self._pinned(given.shape, given.dtype).copy_(given, non_blocking=True)
            given.record_stream(self._stream)
            done = self._stream.record_event()

        def arrived() -> NDArray[Any]:
            done.synchronize()
            return np.asarray(held.numpy())

        return arrived
