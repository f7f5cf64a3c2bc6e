"""The methods: one file each under ``methods/forward`` and ``methods/gradient``, listed by file name.

Nothing is imported to list them; one is imported when it is asked for.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from sightline.abilities import Ability
from sightline.errors import UnknownName, UsageError
from sightline.target import Target
from sightline.types import Batch, Result

FOLDERS = ("forward", "gradient")


class Method(Protocol):
    """A frozen keyword-only dataclass; its fields are its parameters, its flags and its cache key."""

    def run(self, oracle: Any, images: Batch, target: Target) -> Result:
        """The result for these images; ``oracle`` is an opened route that offers what the method needs."""
        ...


@dataclass(frozen=True)
class Declaration:
    """What a method says of itself.

    Attributes:
        needs: the ability that its route must offer.
        takes_images: False for methods that look at the network alone.
        takes_target: False for methods that explain no score.
    """

    needs: Ability
    takes_images: bool = True
    takes_target: bool = True


M = TypeVar("M")


def method(*, needs: Ability, takes_images: bool = True, takes_target: bool = True) -> Callable[[type[M]], type[M]]:
    """Declare what a method needs; see ``Declaration``."""

    def declare(kind: type[M]) -> type[M]:
        cast(Any, kind).declaration = Declaration(needs, takes_images, takes_target)
        return kind

    return declare


def declaration(method: Method | type[Method]) -> Declaration:
    """What the method declared with ``@method``; one that works on another's result needs what ``wrapped()`` needs.

    Raises:
        UsageError: it declared nothing.
    """
    found = getattr(method, "declaration", None)
    if not isinstance(found, Declaration):
        raise UsageError(f"{method!r} is no method: its class carries no @method(needs=…).")
    wrapped = None if isinstance(method, type) else getattr(method, "wrapped", None)
    return found if wrapped is None else dataclasses.replace(found, needs=declaration(wrapped()).needs)


@dataclass(frozen=True)
class Entry:
    """A method that exists, read from its source without importing it."""

    name: str
    family: str  # "forward" or "gradient"
    class_name: str
    summary: str
    needs: str  # the ability's name

    def load(self) -> type[Method]:
        """Import the file and return the class."""
        module = importlib.import_module(f"sightline.methods.{self.family}.{self.name}")
        return cast(type[Method], getattr(module, self.class_name))


def entries() -> Mapping[str, Entry]:
    """Every method by name, forward ones first, each family in alphabetical order."""
    root = Path(__file__).parent / "methods"
    found: dict[str, Entry] = {}
    for family in FOLDERS:
        for path in sorted((root / family).glob("[!_]*.py")):
            entry = _read(path, family)
            if entry is not None:
                found[entry.name] = entry
    return found


def find(name: str) -> Entry:
    """The method of this name; dashes count as underscores.

    Raises:
        UnknownName: with the nearest names.
    """
    known = entries()
    key = name.replace("-", "_")
    if key not in known:
        raise UnknownName("method", name, known)
    return known[key]


def by_class(class_name: str) -> Entry:
    """The method whose class has this name.

    Raises:
        UnknownName: with the nearest names.
    """
    known = {entry.class_name: entry for entry in entries().values()}
    if class_name not in known:
        raise UnknownName("method", class_name, known)
    return known[class_name]


def parse(text: str) -> Method:
    """A method by its name, with fields where they are not the defaults.

    >>> parse("rise(masks=500)").masks, parse("occlusion").stride
    (500, 8)

    Raises:
        UnknownName: no method has this name.
        UsageError: the text is no name with fields, or the method has no such field.
    """
    refused = UsageError(f"{text!r} names no method. Write its name, with fields if need be: saliency(reduce='sum').")
    try:
        tree = ast.parse(text.strip().replace("-", "_"), mode="eval").body
    except SyntaxError:
        raise refused from None
    match tree:
        case ast.Name(id=name):
            return find(name).load()()
        case ast.Call(func=ast.Name(id=name), args=[], keywords=words):
            kind = find(name).load()
            try:
                return kind(**{str(word.arg): ast.literal_eval(word.value) for word in words})
            except (TypeError, ValueError) as reason:
                raise UsageError(f"{text!r}: {name} does not take these fields ({reason}).") from None
        case _:
            raise refused


def method_name(method: Method) -> str:
    """The name of a method's file, which is its name on the command line."""
    return type(method).__module__.rpartition(".")[2]


def parameters(method: Method) -> Mapping[str, object]:
    """A method's fields and their values."""
    return {field.name: getattr(method, field.name) for field in dataclasses.fields(cast(Any, method))}


def field_notes(kind: type[Method]) -> Mapping[str, str]:
    """The comment behind each field, which is its help; fields of base classes included."""
    notes: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(owner):
            continue
        lines, _ = inspect.getsourcelines(owner)
        for line in lines:
            match = re.match(r"\s+(\w+)\s*:.*#\s*(.+)$", line)
            if match:
                notes[match[1]] = match[2].strip()
    return notes


def _read(path: Path, family: str) -> Entry | None:
    """The class that carries ``@method`` in a file."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith("method"):
                summary = (ast.get_docstring(node) or "").partition("\n")[0].rstrip(".")
                needs = next(
                    (
                        ast.unparse(word.value).rpartition(".")[2]
                        for word in decorator.keywords
                        if word.arg == "needs"
                    ),
                    "",
                )
                return Entry(path.stem, family, node.name, summary, needs)
    return None
