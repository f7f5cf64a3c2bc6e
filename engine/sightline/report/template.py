"""Pages from templates: each one file that stands alone, offline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sightline import __version__
from sightline.colour import number
from sightline.job.files import make_folder, write_atomically

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
    """Write a page as it comes; an older one is replaced once the new one is whole.

    Raises:
        CannotWrite: no space or no permission.
    """
    path = Path(path)
    make_folder(path.absolute().parent)
    # Paths that are not valid UTF-8 on disk reach here as lone surrogates: they are shown as question marks.
    write_atomically(path, (chunk.encode("utf-8", "replace") for chunk in chunks))
    return path


def save_page(path: str | Path, template: str, **values: object) -> Path:
    """Write a page from a template."""
    return save_chunks(path, page_chunks(template, **values))
