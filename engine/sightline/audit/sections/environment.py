"""Environment: what ran the two, and where."""

from __future__ import annotations

from collections.abc import Mapping

from sightline.audit.context import Context
from sightline.audit.section import Finding, Outcome
from sightline.routes.providers import PROVIDERS
from sightline.routes.sessions import available_providers, installed_runtimes, open_session, placement


class Environment:
    """Versions, providers asked and got, nodes per provider, threads."""

    name = "environment"
    place = 15
    share = 0.00
    figures: Mapping[str, str] = {"stray_nodes": "nodes that run on another provider than the one that was asked for"}

    def run(self, context: Context) -> Outcome:
        model, settings = context.candidate.model, context.candidate.settings
        session = open_session(model, (model.logits_name,), settings)
        asked = PROVIDERS[settings.device]
        nodes = {provider: dict(kinds) for provider, kinds in placement(session).items()}
        strays = sum(sum(kinds.values()) for provider, kinds in nodes.items() if provider != asked)
        found = [Finding("warning", f"{strays} nodes do not run on {asked}.")] if strays else []
        details = {
            "runtimes": installed_runtimes(), "available": available_providers(), "asked": asked, "nodes": nodes,
            "threads": context.options.threads,
        }  # fmt: skip
        return Outcome({"stray_nodes": float(strays)}, tuple(found), details=details)


SECTION = Environment()
