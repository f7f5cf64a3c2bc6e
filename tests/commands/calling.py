"""A command called as from a shell, and what it said."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from sightline.cli import call


@dataclass(frozen=True)
class Said:
    """Exit code and both streams of one call."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on stdout."""
        return json.loads(self.out)


class Shell:
    """Calls commands in this process; a traceback on any stream fails the test."""

    def __init__(self, capsys: pytest.CaptureFixture[str]):
        self._capsys = capsys

    def __call__(self, *words: object) -> Said:
        self._capsys.readouterr()
        code = call([str(word) for word in words])
        out, err = self._capsys.readouterr()
        assert "Traceback" not in err + out, err
        return Said(code, out, err)

    def refused(self, code: int, *words: object) -> str:
        """The message of a call that must fail with this code and print nothing on stdout."""
        said = self(*words)
        assert said.code == code, said
        assert said.out == ""
        assert said.err.startswith("sightline: ")
        return said.err
