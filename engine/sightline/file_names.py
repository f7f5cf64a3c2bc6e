"""File names for inputs, whose ids may be any text."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

LONGEST_NAME = 120  # bytes, leaving room for suffixes under the 255 of file systems
_RESERVED = {"con", "prn", "aux", "nul"} | {f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10)}


def stems(identifiers: Iterable[str]) -> Mapping[str, str]:
    """A file name without suffix for each id, no two alike: that of the photo's file where no other shares it.

    >>> dict(stems(["cats/tom.jpg", "dog.jpg", "dog.png"]))
    {'cats/tom.jpg': 'tom', 'dog.jpg': 'dog.jpg', 'dog.png': 'dog.png'}
    """
    ids = list(dict.fromkeys(identifiers))
    own = {one: PurePosixPath(one).stem for one in ids}
    shared = Counter(stem.casefold() for stem in own.values())
    taken: set[str] = set()
    short = {one: free_name(own[one], taken) for one in ids if shared[own[one].casefold()] == 1}
    return {one: short.get(one) or free_name(one, taken) for one in ids}


def safe_name(identifier: str) -> str:
    """A file name for any text: letters, digits and ``. _ -`` stay, the rest becomes ``_`` and a hash is added.

    >>> safe_name("000_tench.jpg")
    '000_tench.jpg'
    >>> safe_name("a/b.jpg")
    'a_b.jpg-4a5163'
    """
    text = unicodedata.normalize("NFC", identifier)
    name = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in text)
    name = "_" + name[1:] if name.startswith(".") else name
    name = "_" + name if name.partition(".")[0].lower() in _RESERVED else name
    name = name.encode()[:LONGEST_NAME].decode(errors="ignore") or "_"
    return name if name == identifier else f"{name}-{_digest(identifier)}"


def free_name(identifier: str, taken: set[str]) -> str:
    """A safe name that no earlier one equals, capitals not counted; equal ids are numbered."""
    name = safe_name(identifier)
    name = name if name.casefold() not in taken else f"{name}-{_digest(identifier)}"
    base, copy = name, 2
    while name.casefold() in taken:
        name, copy = f"{base}-{copy}", copy + 1
    taken.add(name.casefold())
    return name


def _digest(identifier: str) -> str:
    return hashlib.sha256(identifier.encode(errors="surrogatepass")).hexdigest()[:6]
