"""``gpupilot train``: a policy from traffic, validated against the classical controller."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpupilot_agent.cli import options, show
from gpupilot_agent.cli.checks import percent, positive, unused
from gpupilot_agent.cli.examples import examples
from gpupilot_agent.cli.progress import counter, meter

if TYPE_CHECKING:
    from gpupilot_agent.training_config import Progress, TrainConfig
    from gpupilot_agent.training_seeds import Seeded

EXAMPLES = examples(
    "gpupilot train --out bundles/first",
    "gpupilot train --profile my.yaml --traces traces/train --frames 10000000 \\\n"
    "  --seed 3 --out bundles/mine",
    "gpupilot train --minutes 30 --tensorboard --resume --out bundles/mine",
    "gpupilot train --seeds 5 --jobs 5 --minutes 10 --out bundles/five",
)


def train(
    out: options.Out,
    profile: Annotated[
        list[str] | None,
        typer.Option(
            help="Services to train on: files or embedded names; may be given again.",
            metavar="FILE|NAME",
        ),
    ] = None,
    traces: Annotated[
        list[Path] | None,
        typer.Option(
            help="Training traffic, split by day; generated families where none is given.",
            metavar="PATH…",
        ),
    ] = None,
    more: Annotated[
        list[Path] | None,
        typer.Argument(help="More traces, as a shell's * gives them.", metavar="PATH"),
    ] = None,
    target_ms: options.TargetMs = 60.0,
    attainment: options.AttainmentPercent = 99.0,
    frames: Annotated[
        int, typer.Option(min=1, help="Service-decisions to train on at most.")
    ] = 5_000_000,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after so many minutes and keep the best so far.")
    ] = None,
    services: Annotated[
        int, typer.Option(min=2, max=65_536, help="Services trained side by side.")
    ] = 512,
    seed: options.Seed = 0,
    seeds: Annotated[
        int,
        typer.Option(min=1, max=100, help="Trainings with seeds of their own; the best is kept."),
    ] = 1,
    jobs: options.Jobs = 1,
    tensorboard: Annotated[bool, typer.Option(help="Write TensorBoard event files too.")] = False,
    resume: Annotated[
        bool, typer.Option(help="Go on from the checkpoint in the folder, if there is one.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Train a policy that moves the classical controller, and keep the best one validated.

    Written to the folder: policy.npz, the policy itself, which runs without PyTorch;
    training.jsonl, one line per validation; checkpoint.pt to resume from. With several seeds these
    lie in a folder per seed, and policy.npz is the best of them by validation.
    """
    from gpupilot_agent.bundle import load
    from gpupilot_agent.cli.scenes import files_of
    from gpupilot_agent.training import BUNDLE
    from gpupilot_agent.training import train as run
    from gpupilot_agent.training_config import TrainConfig

    positive(target_ms=target_ms, minutes=minutes)
    percent(attainment=attainment)
    if not resume:
        unused(out)
    config = TrainConfig(
        out=out,
        profiles=tuple(profile or [options.DEFAULT_PROFILE]),
        traces=files_of([*(traces or []), *(more or [])]),
        target_ms=target_ms,
        attainment_ratio=attainment / 100.0,
        frames=frames,
        max_seconds=None if minutes is None else 60.0 * minutes,
        services=services,
        seed=seed,
        tensorboard=tensorboard,
        resume=resume,
    )
    if seeds > 1:
        _every_seed(config, seeds, jobs)
    else:
        with meter("training", 1.0) as told:
            run(config, lambda progress: told(progress.fraction, remark(progress)))
    path = out / BUNDLE
    bundle = load(path)
    if as_json:
        show.as_json({"bundle": str(path), "sha256": bundle.sha256, "card": dict(bundle.card)})
        return
    show.table("evaluation card", ("measure", "value"), card_rows(bundle.card))
    show.line(str(path))


def _every_seed(config: TrainConfig, seeds: int, jobs: int) -> None:
    """Train with ``seeds`` seeds from the configuration's own on, and say what each came to."""
    from gpupilot_agent.training_seeds import train_seeds

    found: list[str] = []
    with counter("training") as told:

        def done(seeded: Seeded) -> None:
            saving = "off the scale" if seeded.saving is None else f"{100 * seeded.saving:+.1f} %"
            found.append(f"seed {seeded.seed}: {saving} GPU time saved on validation")
            told(len(found), seeds, found[-1])

        train_seeds(config, range(config.seed, config.seed + seeds), jobs=jobs, on_done=done)
    for line in found:
        show.line(line)


def remark(progress: Progress) -> str:
    """Return what to say beside the bar: what the policy saves, and at what attainment."""
    parts = [progress.phase]
    if progress.attainment_ratio is not None:
        parts.append(f"{100 * progress.attainment_ratio:.2f} % in time")
    if progress.saving is not None:
        parts.append(f"{100 * progress.saving:+.1f} % GPU time saved on validation")
    return ", ".join(parts)


def card_rows(card: object, prefix: str = "") -> list[tuple[str, str]]:
    """Return a nested card as rows of a dotted name and a value; its learning curve is left out."""
    if isinstance(card, list):
        return []
    if not isinstance(card, dict):
        return [(prefix, f"{card:.4g}" if isinstance(card, float) else str(card))]
    return [
        row
        for name, value in card.items()
        for row in card_rows(value, f"{prefix}.{name}" if prefix else str(name))
    ]
