"""Command-line flags from a method's fields."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Group, Parameter

from sightline import registry
from sightline.errors import UnknownName, UsageError
from sightline.registry import Entry, Method

METHOD = Group("Method", sort_key=1)


def method_app(name: str, summary: str, module: str) -> App:
    """A command with one subcommand per method, each read from its file only when it is called.

    Args:
        name: of the command.
        summary: its help.
        module: its ``__getattr__`` must answer a method's name with what ``with_flags`` makes.
    """
    app = App(name=name, help=summary, help_format="plaintext", result_action="return_value")
    for entry in registry.entries().values():
        app.command(f"{module}:{entry.name}", name=entry.name, alias=_dashed(entry.name), help=entry.summary)
    app.default(_refuses(name))
    return app


def with_flags(entry: Entry, command: Callable[..., int]) -> Callable[..., int]:
    """The command for one method: its ``method`` parameter becomes one flag per field.

    Args:
        entry: the method.
        command: takes ``method``, an instance, and whatever else it declares; ``images`` and ``target`` are left out
            for methods that take none.
    """
    kind = entry.load()
    declared = registry.declaration(kind)
    signature = inspect.signature(command, eval_str=True)
    fields = {field.name for field in dataclasses.fields(typing.cast(Any, kind))}

    def call(*positional: Any, **flags: Any) -> int:
        values = {name: flags.pop(name) for name in list(flags) if name in fields}
        return command(*positional, method=kind(**values), **flags)

    parameters = [
        parameter
        for name, parameter in signature.parameters.items()
        if name != "method"
        and (declared.takes_images or name != "images")
        and (declared.takes_target or name != "target")
    ]
    parameters += field_parameters(kind)
    call.__name__ = entry.name
    call.__doc__ = inspect.getdoc(kind)
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def field_parameters(kind: type[Method]) -> list[inspect.Parameter]:
    """A keyword per field, its help the comment behind the field."""
    notes, hints = registry.field_notes(kind), typing.get_type_hints(kind)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=Annotated[
                hints[field.name],
                Parameter(group=METHOD, help=_help(notes.get(field.name, ""), hints[field.name])),
            ],
        )
        for field in dataclasses.fields(typing.cast(Any, kind))
    ]


def _help(note: str, hint: Any) -> str:
    """The note, and how several values are given: a second word would be taken for the model or an image."""
    several = typing.get_origin(hint) is tuple and Ellipsis in typing.get_args(hint)
    return f"{note}; repeat the flag for several" if several else note


def command_summary(file: str) -> str:
    """First line of a command file's docstring."""
    return (ast.get_docstring(ast.parse(Path(file).read_text(encoding="utf-8"))) or "").partition("\n")[0]


def _dashed(name: str) -> tuple[str, ...]:
    """How flags would spell it."""
    return (name.replace("_", "-"),) if "_" in name else ()


def _refuses(name: str) -> Callable[..., int]:
    """What runs where no method is named, or one that does not exist: known ones have subcommands of their own."""

    def refuse(*words: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]) -> int:
        known = registry.entries()
        method = next((word for word in words if not word.startswith("-")), None)
        if method is None or method in known:
            raise UsageError(
                f"Name a method first: sightline {name} METHOD MODEL …, METHOD one of {', '.join(known)}."
            )
        raise UnknownName("method", method, known)

    refuse.__doc__ = f"sightline {name} METHOD MODEL …"
    return refuse
