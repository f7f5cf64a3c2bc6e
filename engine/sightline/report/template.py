"""Pages from templates: each one file that stands alone, offline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sightline import __version__
from sightline.colour import number

TEMPLATES = Path(__file__).with_name("templates")


def page_chunks(template: str, **values: object) -> Iterator[str]:
    """A page, piece by piece."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    return environment.get_template(template).generate(version=__version__, **values)


def save_chunks(path: str | Path, chunks: Iterator[str]) -> Path:
    """Write a page as it comes; an older one is replaced once the new one is whole."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.part")
    # Paths that are not valid UTF-8 on disk reach here as lone surrogates: they are shown as question marks.
    with unfinished.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
        file.writelines(chunks)
    return unfinished.replace(path)


def save_page(path: str | Path, template: str, **values: object) -> Path:
    """Write a page from a template."""
    return save_chunks(path, page_chunks(template, **values))
