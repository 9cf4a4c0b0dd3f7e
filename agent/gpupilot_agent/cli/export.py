"""``gpupilot export``: a policy for another runtime, and proof that it is the one meant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpupilot_agent.cli import options, show
from gpupilot_agent.cli.examples import examples
from gpupilot_agent.cli.scenes import bundle_file, trusted

EXAMPLES = examples(
    "gpupilot export bundles/mine --onnx mine.onnx",
    "gpupilot export generalist --onnx generalist.onnx",
    "gpupilot export bundles/mine/policy.npz --digest --sign release.pem",
)


def export(
    bundle: Annotated[
        Path, typer.Argument(help="A policy or a training's folder.", metavar="BUNDLE")
    ],
    onnx: Annotated[
        Path | None, typer.Option(help="Write an ONNX model of the policy.", metavar="FILE")
    ] = None,
    digest: Annotated[
        bool, typer.Option("--digest", help="Write the file's SHA-256 beside it.")
    ] = False,
    sign: Annotated[
        Path | None,
        typer.Option(help="Sign the file with an Ed25519 private key (PEM).", metavar="KEY"),
    ] = None,
    bundle_digest: options.BundleDigest = None,
    bundle_key: options.BundleKey = None,
) -> None:
    """Write a policy as ONNX, its digest, or its signature.

    The digest is checked wherever the policy is loaded from the same folder; the signature where
    --bundle-key names the public key.
    """
    from gpupilot_agent import onnx_export, signature
    from gpupilot_envs.errors import InputInvalid

    if onnx is None and sign is None and not digest:
        raise InputInvalid("export", "nothing", "one of --onnx, --digest or --sign")
    policy = trusted(bundle, digest=bundle_digest, key=bundle_key)
    if onnx is not None:
        onnx_export.export(policy, onnx)
        show.line(str(onnx))
    if digest:
        show.line(signature.write_digest(bundle_file(bundle)))
    if sign is not None:
        show.line(str(signature.sign(bundle_file(bundle), sign)))
