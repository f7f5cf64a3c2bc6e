"""Runs the nodes of an ONNX graph one by one under autograd."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import onnx_ir as ir
import torch
from torch import Tensor, nn

from sightline.errors import UnknownName, UnsupportedOperator, UsageError
from sightline.twin.binding import bound_kernel
from sightline.twin.gates import with_gates
from sightline.twin.in_place import reusing
from sightline.twin.node import WEIGHTED, Kernel, Node
from sightline.twin.reading import FORWARD_ONLY, bind, inline, read_constants, read_nodes, refusals
from sightline.twin.rules import Rule, plain_gradient, relu_like

MOST_PLANS = 64  # distinct (inputs, outputs, rule) kept; a plan of 300 nodes takes 0.3 ms to make
_OMITTED = 0  # slot of an input that the node leaves out: always None
_UNREAD = -1  # slot of an output that the node leaves out
_MEASURES = ("Shape", "Size")


@dataclass(frozen=True, slots=True)
class Step:
    """One node bound to where its operands lie and its results go.

    Attributes:
        dead: slots that no later step of the plan reads.
    """

    node: Node
    kernel: Kernel
    operands: tuple[int, ...]
    results: tuple[int, ...]
    dead: tuple[int, ...] = ()


class Twin(nn.Module):
    """A model's ONNX graph under autograd; weights are buffers without gradient, nothing is computed in place.

    What depends on constants alone is computed once. Arithmetic on shapes stays on the CPU when the twin moves.

    Attributes:
        inputs: names of the graph's inputs.
        outputs: names of the graph's outputs.
        values: names of all values that nodes of the graph make, in the order in which they are made.
        computed: those of them that the inputs' numbers decide, not constants or shapes alone.
        relu_like: names of the nodes that a ``ReluRule`` overrides.

    Raises:
        UnsupportedOperator: the twin lacks operators; the message names all their nodes.
    """

    def __init__(self, model: ir.Model) -> None:
        super().__init__()
        plain = inline(model)
        constants = read_constants(plain)
        nodes = read_nodes(plain)
        reasons = refusals(plain, nodes, constants)
        if reasons:
            raise UnsupportedOperator("\n".join([*reasons, FORWARD_ONLY]))
        self.inputs = tuple(str(v.name) for v in plain.graph.inputs if v.name not in plain.graph.initializers)
        self.outputs = tuple(str(value.name) for value in plain.graph.outputs)
        self.values = tuple(str(v.name) for node in model.graph for v in node.outputs if v.name)
        self._slots = {"": _OMITTED}
        self._places: list[tuple[int, Tensor | str]] = []  # constants: a tensor on the CPU, or the name of a buffer
        self._plans: dict[Any, tuple[Step, ...]] = {}
        self._measured = set[str]()
        self._steps = self._compile(nodes, constants)
        self.relu_like = tuple(step.node.name for step in self._steps if relu_like(step.node))
        self._makers = {slot: index for index, step in enumerate(self._steps) for slot in step.results}
        made = {name for step in self._steps for name in step.node.outputs} - self._measured
        self.computed = tuple(name for name in self.values if name in made)
        self._template: list[Tensor | None] = []
        self._lay_out()

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The graph's outputs, in its order; a bare tensor where there is one."""
        if len(inputs) != len(self.inputs):
            raise UsageError(f"{len(inputs)} inputs were given; the graph has {len(self.inputs)}: {self.inputs}.")
        found = self.run(dict(zip(self.inputs, inputs, strict=True)), self.outputs)
        return found[self.outputs[0]] if len(self.outputs) == 1 else tuple(found[name] for name in self.outputs)

    def run(
        self, inputs: Mapping[str, Tensor], outputs: Sequence[str], *, rule: Rule | None = None
    ) -> dict[str, Tensor]:
        """Any values of the graph, from any values of the graph; only the nodes between them are run.

        Args:
            inputs: tensors by name; naming an inner value starts there.
            outputs: names of what to return, tensors of one autograd graph.
            rule: replaces the gradient of the nodes it chooses.

        Raises:
            UnknownName: the graph has no value of a name.
            UsageError: an input that the outputs depend on is not given.
        """
        for name in (*inputs, *outputs):
            if name not in self._slots or not name:
                raise UnknownName("value", name, (known for known in self._slots if known))
        key = (frozenset(inputs), tuple(outputs), rule)
        plan = self._plans.get(key)
        if plan is None:
            while len(self._plans) >= MOST_PLANS:
                del self._plans[next(iter(self._plans))]
            plan = self._plans[key] = self._plan(inputs, outputs, rule)
        values = self._template.copy()
        for name, tensor in inputs.items():
            values[self._slots[name]] = tensor
        _execute(plan, values)
        return {name: _present(name, values[self._slots[name]]) for name in outputs}

    def maker(self, value: str) -> Node | None:
        """The node that makes a value; None for inputs and for what is constant."""
        index = self._makers.get(self._slots.get(value, _OMITTED))
        return None if index is None else self._steps[index].node

    def sources(self, value: str) -> tuple[str, ...]:
        """Of a computed value the nearest inputs and other computed values that it can be run from."""
        known, found, left = {*self.inputs, *self.computed}, dict[str, None](), [value]
        while left:
            node = self.maker(left.pop())
            for name in node.inputs if node is not None else ():
                if name in known:
                    found[name] = None
                else:  # shape arithmetic, or inside of a function
                    left.append(name)
        return tuple(found)

    @property
    def device(self) -> torch.device:
        """Where the weights are; the CPU where there are none."""
        return next((buffer.device for buffer in self.buffers()), torch.device("cpu"))

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self._lay_out()
        return self

    def _lay_out(self) -> None:
        """Point the slots of constants to where the constants are now."""
        self._template = [None] * (max(len(self._slots), *(slot + 1 for slot, _ in self._places), 0) + 1)
        for slot, place in self._places:
            self._template[slot] = self.get_buffer(place) if isinstance(place, str) else place

    def _slot(self, name: str) -> int:
        return self._slots.setdefault(name, len(self._slots))

    def _compile(self, nodes: list[Node], constants: dict[str, Tensor]) -> tuple[Step, ...]:
        """Fold what is constant, and bind every other node."""
        for name in (*self.inputs, *constants):
            self._slot(name)
        bound: list[Node] = []
        for bare in nodes:
            node = bind(bare, constants)
            if all(not name or name in constants for name in node.inputs):
                constants.update(_fold(node, constants))
            else:
                bound.append(node)
            for name in node.outputs:
                self._slot(name)
        self._measured = measured = _measured(bound, constants)
        copies = self._place(constants, bound, measured)
        told = with_gates(_with_depths(bound), constants)
        return tuple(self._bind(node, measured, copies) for node in told)

    def _place(self, constants: Mapping[str, Tensor], bound: list[Node], measured: set[str]) -> dict[str, int]:
        """Register constants as buffers; those that shape arithmetic reads also get a slot that stays on the CPU."""
        kernels = {node.inputs[1] for node in bound if node.operator == "Conv"}
        for index, (name, tensor) in enumerate(constants.items()):
            if name in kernels and tensor.dim() == 4:
                tensor = tensor.contiguous(memory_format=torch.channels_last)  # or every run would copy it so
            self.register_buffer(f"constant_{index}", tensor, persistent=False)
            self._places.append((self._slots[name], f"constant_{index}"))
        read = {name for node in bound if node.outputs[0] in measured for name in node.inputs if name in constants}
        copies = {name: len(self._slots) + index for index, name in enumerate(sorted(read))}
        self._places.extend((slot, constants[name]) for name, slot in copies.items())
        return copies

    def _bind(self, node: Node, measured: set[str], copies: Mapping[str, int]) -> Step:
        on_cpu = node.outputs[0] in measured
        operands = tuple(copies.get(n, self._slots[n]) if on_cpu else self._slots[n] for n in node.inputs)
        strays = () if on_cpu else tuple(index for index, name in enumerate(node.inputs) if name in measured)
        results = tuple(self._slots[name] if name else _UNREAD for name in node.outputs)
        return Step(node, bound_kernel(node, strays), operands, results)

    def _plan(self, inputs: Iterable[str], outputs: Iterable[str], rule: Rule | None) -> tuple[Step, ...]:
        """The steps between two sets of values, in order, with what each leaves unread behind it."""
        constants = {slot for slot, _ in self._places}
        ready = {_OMITTED, *(self._slots[name] for name in inputs), *constants}
        kept = {self._slots[name] for name in outputs}
        needed: set[int] = set()
        open_slots = list(kept - ready)
        while open_slots:
            slot = open_slots.pop()
            if slot not in self._makers:
                names = [name for name, where in self._slots.items() if where == slot]
                raise UsageError(f"Input {names[0]!r} is not given; the graph's inputs are {self.inputs}.")
            if self._makers[slot] not in needed:
                needed.add(self._makers[slot])
                open_slots.extend(set(self._steps[self._makers[slot]].operands) - ready)
        steps = reusing([self._steps[index] for index in sorted(needed)], kept, rule)
        return _with_deaths([_ruled(step, rule) for step in steps], kept | constants | {_OMITTED, _UNREAD})


def unsupported(model: ir.Model) -> list[str]:
    """Why the twin of a model cannot be made, a sentence per node; empty when it can. Nothing is executed."""
    plain = inline(model)
    try:
        return refusals(plain, read_nodes(plain), read_constants(plain))
    except UnsupportedOperator as reason:
        return [str(reason)]


def _execute(plan: tuple[Step, ...], values: list[Tensor | None]) -> None:
    step = None
    try:
        for step in plan:
            found = step.kernel(*[values[slot] for slot in step.operands])
            if isinstance(found, tuple):
                for slot, result in zip(step.results, found, strict=False):
                    values[slot] = result
            else:
                values[step.results[0]] = found
            for slot in step.dead:
                values[slot] = None
    except Exception as reason:
        if step is not None:
            reason.add_note(f"While the twin ran node {step.node.name!r} ({step.node.operator}).")
        raise


def _present(name: str, tensor: Tensor | None) -> Tensor:
    assert tensor is not None, name
    return tensor


@torch.no_grad()
def _fold(node: Node, constants: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = bound_kernel(node)(*[constants.get(name) for name in node.inputs])
    results = found if isinstance(found, tuple) else (found,)
    return {name: result for name, result in zip(node.outputs, results, strict=False) if name and result is not None}


def _with_depths(nodes: list[Node]) -> list[Node]:
    """The nodes, those of layers with weights told how deep they lie."""
    layers = [node.name for node in nodes if node.operator in WEIGHTED]
    depths = {name: index / max(len(layers) - 1, 1) for index, name in enumerate(layers)}
    return [replace(node, depth=depths[node.name]) if node.operator in WEIGHTED else node for node in nodes]


def _measured(nodes: list[Node], constants: Mapping[str, Tensor]) -> set[str]:
    """Values that depend on shapes and constants alone: they are computed on the CPU."""
    found: set[str] = set()
    for node in nodes:
        given = [name for name in node.inputs if name]
        if node.operator in _MEASURES or all(name in found or name in constants for name in given):
            found.update(node.outputs)
    return found - {""}


def _ruled(step: Step, rule: Rule | None) -> Step:
    chosen = plain_gradient if rule is None and step.node.owns_gradient else rule
    override = None if chosen is None else chosen(step.node)
    if override is None:
        return step
    return replace(step, kernel=partial(override, step.kernel))


def _with_deaths(steps: list[Step], kept: set[int]) -> tuple[Step, ...]:
    """The steps, each told which slots are read there for the last time."""
    seen, found = set(kept), list[Step]()
    for step in reversed(steps):
        dead = {*step.operands, *step.results} - seen
        seen |= dead
        found.append(replace(step, dead=tuple(dead)))
    return tuple(reversed(found))
