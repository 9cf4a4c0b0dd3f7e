"""``gpupilot card``: what a policy is, what it learned from and how it did."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpupilot_agent.cli import options, show
from gpupilot_agent.cli.examples import examples
from gpupilot_agent.cli.scenes import trusted

EXAMPLES = examples(
    "gpupilot card",
    "gpupilot card bundles/mine",
    "gpupilot card policy.npz --bundle-key release.pub --json",
)


def card(
    bundle: Annotated[
        Path,
        typer.Argument(
            help="A policy or a training's folder; the policy that ships where none is given.",
            metavar="[BUNDLE]",
        ),
    ] = Path("generalist"),
    bundle_digest: options.BundleDigest = None,
    bundle_key: options.BundleKey = None,
    as_json: options.AsJson = False,
) -> None:
    """Print a policy's evaluation card: identity, training, results, losses and limits."""
    from gpupilot_agent.card import render

    policy = trusted(bundle, digest=bundle_digest, key=bundle_key)
    if as_json:
        show.as_json({"sha256": policy.sha256, "commit": policy.commit, "card": dict(policy.card)})
        return
    show.line(render(policy).rstrip())
