"""Runs whose inputs and outputs lie where the network is computed: only what is asked for travels.

Order of work: ONNX Runtime copies an array to the device before a run begins and waits for that copy, waits for its
own stream before the run returns, and copies an output back only then. So there is no stream of ours to keep in step.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.routes.providers import apart

Feed = Mapping[str, Any]  # arrays of the host, and values that stayed on the device

CAPTURE_FROM = 4  # runs of one shape, after which its launches are captured as one
GRAPH = "gpu_graph_id"  # ONNX Runtime's run option: which captured graph
SKIP = "-1"  # none
AGREEMENT = 1e-4  # largest difference of a captured run from one that was not, relative to the largest number


class BoundSession:
    """A session on a device.

    Every input has one address per name and shape, whose numbers change: bindings are made once, and a run that was
    captured as a CUDA graph, which knows nothing but addresses, can be replayed. One thread at a time.

    Args:
        session: of ONNX Runtime.
        runtime: its module, which makes values and run options.
        device: "cuda"; "cpu" behaves alike and needs no GPU.
        outputs: names, in the graph's order.
        translated: makes of an error of ONNX Runtime's what the caller is told.
        uncaptured: opens the same session without CUDA graphs; given if this one was opened for them, and shapes that
            come again are to be replayed.
        number: of the device, as CUDA counts.
    """

    def __init__(
        self,
        session: Any,
        runtime: Any,
        device: str,
        outputs: Sequence[str],
        translated: Callable[[Exception], Exception],
        *,
        uncaptured: Callable[[], Any] | None = None,
        number: int = 0,
    ):
        self._number = number if device == "cuda" else 0
        self._session: Any = session
        self._runtime, self._device, self._outputs = runtime, device, tuple(outputs)
        self._translated, self._uncaptured = translated, uncaptured
        self._held: dict[tuple[Any, ...], Any] = {}  # value on the device by name and shape
        self._shapes: dict[tuple[Any, ...], _Shape] = {}

    def hold(self, name: str, array: NDArray[Any]) -> Any:
        """The array on the device, where the last one of this name and shape was: that one is overwritten."""
        key = (name, array.shape)
        if key not in self._held:
            self._held[key] = self._value(array.shape, array.dtype)
        self._held[key].update_inplace(np.ascontiguousarray(array))
        return self._held[key]

    def stay(self, feed: Feed) -> dict[str, Any]:
        """The outputs by name, left on the device for any consumer of DLPack; the next call overwrites them."""
        shape = self._shape(("stay", *self._key(feed)), feed)
        if not shape.outputs:
            for name in self._outputs:
                shape.binding.bind_output(name, self._device, self._number)
        self._go(shape.binding, SKIP)
        if not shape.outputs:
            shape.outputs = dict(zip(self._outputs, shape.binding.get_outputs(), strict=True))
            for name, value in shape.outputs.items():
                shape.binding.bind_ortvalue_output(name, value)
        return dict(shape.outputs)

    def run(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """The outputs by name, as arrays of the host."""
        shape = self._shape(self._key(feed), feed)
        shape.seen += 1
        if shape.replay is not None:
            return self._replayed(shape.replay)
        for name in self._outputs:
            shape.binding.bind_output(name, "cpu", 0)
        self._go(shape.binding, SKIP)
        found = dict(zip(self._outputs, shape.binding.copy_outputs_to_cpu(), strict=True))
        if self._uncaptured is not None and shape.seen == CAPTURE_FROM and not self._capture(shape, feed, found):
            del shape  # its binding is the session's
            self._reopen(self._uncaptured)
        return found

    def _key(self, feed: Feed) -> tuple[Any, ...]:
        """What a binding depends on: shapes of arrays, addresses of what lies on the device."""
        return tuple(
            (name, value.shape if isinstance(value, np.ndarray) else value.data_ptr()) for name, value in feed.items()
        )

    def _shape(self, key: tuple[Any, ...], feed: Feed) -> _Shape:
        """The binding for feeds like this one, its inputs up to date."""
        if key not in self._shapes:
            self._shapes[key] = _Shape(self._session.io_binding(), str(len(self._shapes) + 1))  # 0 is not ours
            self._bind_inputs(self._shapes[key].binding, feed)
        else:
            for name, value in feed.items():
                if isinstance(value, np.ndarray):
                    self.hold(name, value)
        return self._shapes[key]

    def _bind_inputs(self, binding: Any, feed: Feed) -> None:
        for name, value in feed.items():
            binding.bind_ortvalue_input(name, self.hold(name, value) if isinstance(value, np.ndarray) else value)

    def _capture(self, shape: _Shape, feed: Feed, plain: Mapping[str, NDArray[Any]]) -> bool:
        """Capture the launches of a run and replay them once; what differs from the plain run is not used.

        Returns:
            Whether it could be captured: a kernel that waits for the device, say, cannot.
        """
        replay = _Replay(self._session.io_binding(), shape.graph)
        self._bind_inputs(replay.binding, feed)
        try:
            for name, array in plain.items():
                replay.outputs[name] = self._value(array.shape, array.dtype)
                replay.binding.bind_ortvalue_output(name, replay.outputs[name])
            alike = all(self._agrees(self._replayed(replay), plain) for _ in range(2))
        except Exception as reason:  # of whatever kind: the plain run of this very feed went well
            traceback.clear_frames(reason.__traceback__)  # they hold the session
            return False
        shape.replay = replay if alike else None
        return True

    def _agrees(self, found: Mapping[str, NDArray[Any]], plain: Mapping[str, NDArray[Any]]) -> bool:
        return all(apart(found[name], expected) <= AGREEMENT for name, expected in plain.items())

    def _reopen(self, uncaptured: Callable[[], Any]) -> None:
        """Go on with a session without CUDA graphs: the stream of this one may be capturing still.

        It goes with all that holds it before the other is made, which could allocate nothing while a stream captures.
        Values on the device are nobody's session's, and keep their addresses.
        """
        self._shapes.clear()
        self._session, self._uncaptured = None, None
        self._session = uncaptured()

    def _replayed(self, replay: _Replay) -> dict[str, NDArray[Any]]:
        self._go(replay.binding, replay.graph)
        return {name: value.numpy() for name, value in replay.outputs.items()}

    def _go(self, binding: Any, graph: str) -> None:
        options = None
        if self._uncaptured is not None:
            options = self._runtime.RunOptions()
            options.add_run_config_entry(GRAPH, graph)
        try:
            self._session.run_with_iobinding(binding, options)
        except Exception as reason:
            raise self._translated(reason) from reason

    def _value(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
        return self._runtime.OrtValue.ortvalue_from_shape_and_type(
            list(shape), dtype.type, self._device, self._number
        )


class _Shape:
    """What is bound for feeds of the same shapes and addresses."""

    def __init__(self, binding: Any, graph: str):
        self.binding, self.graph, self.seen = binding, graph, 0
        self.outputs: dict[str, Any] = {}  # that stay
        self.replay: _Replay | None = None


class _Replay:
    """Launches that were captured, and where they write."""

    def __init__(self, binding: Any, graph: str):
        self.binding, self.graph = binding, graph
        self.outputs: dict[str, Any] = {}
