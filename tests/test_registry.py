"""The registry lists files, and a new file is all that a new method takes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sightline import registry
from sightline.errors import UnknownName, UsageError
from sightline.methods.forward.occlusion import Occlusion
from sightline.methods.gradient.saliency import Saliency

METHODS = Path(registry.__file__).parent / "methods"


def test_every_file_is_a_method_forward_ones_first() -> None:
    expected = [
        path.stem for family in ("forward", "gradient") for path in sorted((METHODS / family).glob("[!_]*.py"))
    ]
    assert list(registry.entries()) == expected
    assert {"occlusion", "saliency", "predict", "filters", "activation_map"} <= set(expected)


def test_listing_imports_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that cannot even be imported is listed all the same, and fails only when it is asked for."""
    for family in ("forward", "gradient"):
        (tmp_path / "methods" / family).mkdir(parents=True)
    (tmp_path / "methods" / "forward" / "brilliant_idea.py").write_text(
        '"""What it does."""\nimport a_library_that_nobody_has\n\n@method(needs=abilities.Taps)\n@dataclass\n'
        'class BrilliantIdea:\n    """First line.\n\n    More.\n    """\n'
    )
    (tmp_path / "methods" / "forward" / "_shared.py").write_text("@method(needs=Taps)\nclass Hidden: ...\n")
    (tmp_path / "methods" / "gradient" / "notes.py").write_text("class NoMethod: ...\n")
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "registry.py"))
    assert registry.entries() == {
        "brilliant_idea": registry.Entry("brilliant_idea", "forward", "BrilliantIdea", "First line", "Taps")
    }
    assert "a_library_that_nobody_has" not in sys.modules
    with pytest.raises(ImportError):
        registry.find("brilliant-idea").load()


def test_found_by_name_and_by_class() -> None:
    assert registry.find("guided-backprop") == registry.find("guided_backprop")
    assert registry.by_class("Occlusion").load() is Occlusion
    assert registry.method_name(Saliency()) == "saliency"
    with pytest.raises(UnknownName, match=r"No method is named 'ocluson'. Did you mean 'occlusion'"):
        registry.find("ocluson")
    with pytest.raises(UnknownName, match=r"No method is named 'Ocluson'. Did you mean 'Occlusion'"):
        registry.by_class("Ocluson")


def test_fields_their_values_and_their_notes() -> None:
    assert registry.parameters(Saliency(reduce="sum")) == {"reduce": "sum", "at": None}
    occlusion = registry.parameters(Occlusion(window=5, stride=2))
    assert (occlusion["window"], occlusion["stride"], occlusion["fill"]) == (5, 2, 0.0)
    notes = registry.field_notes(Occlusion)
    assert notes["stride"] == "pixels between neighbouring windows"
    assert registry.field_notes(Saliency)["reduce"].startswith("over channels")  # of the base class


def test_what_declares_nothing_is_no_method() -> None:
    with pytest.raises(UsageError, match=r"is no method: its class carries no @method"):
        registry.declaration(object)  # type: ignore[arg-type]
    import sightline

    with pytest.raises(AttributeError, match="Did you mean 'Occlusion'"):
        _ = sightline.Oclusion
    assert {"Occlusion", "Saliency", "load", "top"} <= set(dir(sightline))
