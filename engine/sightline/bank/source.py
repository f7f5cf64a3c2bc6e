"""What made a bank, so that a question needs the bank alone."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sightline.errors import DamagedOutput, OutputConflict, UsageError
from sightline.job.files import write_atomically
from sightline.methods.forward.features import Features
from sightline.model import Model, load
from sightline.preprocess import Preprocess

SOURCE = "source.json"


@dataclass(frozen=True)
class Source:
    """The network and the method of a bank.

    Attributes:
        model: what was given to ``sightline index``, files as absolute paths.
        sha256: of the network.
        preprocess: as JSON.
        output: that holds its scores.
        features: the method.
    """

    model: str
    sha256: str
    preprocess: str
    output: str
    features: Features

    @classmethod
    def of(cls, given: str, model: Model, features: Features) -> Source:
        """What is to be remembered."""
        path = Path(given)
        named = str(path.absolute()) if path.is_file() else given
        return cls(named, model.sha256, model.preprocess.to_json(), model.output, features)

    def save(self, bank: Path) -> None:
        """Write it into the bank's folder."""
        text = json.dumps({**asdict(self), "features": asdict(self.features)}, indent=1)
        write_atomically(bank / SOURCE, [text.encode()])

    def open(self, elsewhere: str | None = None) -> Model:
        """The network, from where it was or from where it is now.

        Raises:
            UsageError: it is not there any more.
            OutputConflict: what is there is another network.
        """
        given = elsewhere or self.model
        if elsewhere is None and Path(given).is_absolute() and not Path(given).is_file():
            raise UsageError(
                f"The bank was made by {given}, which is gone. Say where the network is now: --model FILE."
            )
        model = load(given, preprocess=Preprocess.from_json(self.preprocess), output=self.output)
        if model.sha256 != self.sha256:
            model.close()
            raise OutputConflict(
                f"{given} is not the network that the bank was made by (its sha256 begins {model.sha256[:12]}, the "
                f"bank's {self.sha256[:12]}). Give that network with --model, or make the bank again."
            )
        return model


def read_source(bank: Path) -> Source:
    """What made the bank in a folder.

    Raises:
        UsageError: it was made from features, by no network of ours.
        DamagedOutput: the record does not hold what was written.
    """
    path = bank / SOURCE
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        features: dict[str, Any] = record["features"]
        features["layers"] = tuple(features["layers"])
        record["features"] = Features(**features)
        return Source(**record)
    except FileNotFoundError as reason:
        raise UsageError(
            f"{bank} was made from features, so images cannot be described in its spaces. Ask by ids of the bank."
        ) from reason
    except (OSError, ValueError, KeyError, TypeError) as reason:
        raise DamagedOutput(f"{path} is damaged: {reason}. Make the bank again.") from reason
