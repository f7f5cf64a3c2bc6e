"""Which function computes which operator, found by reading the folder ``operators``."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from sightline.twin import operators
from sightline.twin.node import Kernel, Node

Build = Callable[[Node], Kernel]
OPSETS = range(7, 29)  # of ONNX's own domain


@dataclass(frozen=True)
class Operator:
    """One function and the operators that it computes.

    Attributes:
        since: first operator set with this meaning.
        until: last operator set with this meaning.
    """

    names: tuple[str, ...]
    build: Build
    since: int
    until: int
    domain: str


def operator(*names: str, since: int = 1, until: int = OPSETS[-1], domain: str = "") -> Callable[[Build], Operator]:
    """Declare what a function computes; nothing else has to be edited."""
    return lambda build: Operator(names, build, since, until, domain)


def direct(*names: str, since: int = 1, until: int = OPSETS[-1], domain: str = "") -> Callable[[Kernel], Operator]:
    """Declare the kernel itself, of an operator without settings."""
    return lambda kernel: Operator(names, lambda _: kernel, since, until, domain)


def lookup(domain: str, name: str, version: int) -> Build | None:
    """The function for an operator of an operator set, None where there is none."""
    own = _plain(domain)
    if not own and version not in OPSETS:
        return None
    for entry in _catalogue().get((own, name), ()):
        if entry.since <= version <= entry.until:
            return entry.build
    return None


def covered(domain: str = "") -> Iterable[str]:
    """Names of all operators of a domain that the twin has, sorted."""
    return sorted(name for where, name in _catalogue() if where == domain)


def _plain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


@cache
def _catalogue() -> Mapping[tuple[str, str], tuple[Operator, ...]]:
    found: dict[tuple[str, str], tuple[Operator, ...]] = {}
    for module in pkgutil.iter_modules(operators.__path__):
        for entry in vars(importlib.import_module(f"{operators.__name__}.{module.name}")).values():
            if isinstance(entry, Operator):
                for name in entry.names:
                    found[entry.domain, name] = (*found.get((entry.domain, name), ()), entry)
    return found
