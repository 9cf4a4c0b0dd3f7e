"""``gpupilot train``: a policy from traffic, validated against the classical controller."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpupilot_agent.cli import options, show
from gpupilot_agent.cli.checks import no_file, percent, positive, unused
from gpupilot_agent.cli.examples import examples
from gpupilot_agent.cli.progress import meter, meters

if TYPE_CHECKING:
    from gpupilot_agent.training_config import Progress, TrainConfig
    from gpupilot_agent.training_seeds import Seeded

EXAMPLES = examples(
    "gpupilot train --out bundles/first",
    "gpupilot train --profile my.yaml --traces traces/train --frames 10000000 \\\n"
    "  --seed 3 --out bundles/mine",
    "gpupilot train --frames 20000000 --patience 10 --tensorboard --resume --out bundles/mine",
    "gpupilot train --config study/best.yaml --seeds 5 --jobs 2 --out bundles/five",
)


def train(
    out: options.Out,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Configuration to start from, as `gpupilot study` writes it; options override it.",
            metavar="FILE",
        ),
    ] = None,
    generalist: Annotated[
        bool, typer.Option(help="The configuration the shipped policy was trained with.")
    ] = False,
    profile: options.Profiles = None,
    traces: options.TrainingTraces = None,
    more: options.MoreTraces = None,
    target_ms: Annotated[
        float | None,
        typer.Option(help="Latency target of the SLO in milliseconds.", show_default="60"),
    ] = None,
    attainment: Annotated[
        float | None,
        typer.Option(
            help="Percent of requests that must be answered within the target.", show_default="99"
        ),
    ] = None,
    frames: options.Frames = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Stop after so many minutes, earlier ones of a resumed training included, and "
            "keep the best so far. Ends a training where the clock says, so not repeatably."
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=1, help="Stop after so many validations without a better one."),
    ] = None,
    services: Annotated[
        int | None,
        typer.Option(min=2, max=65_536, help="Services trained side by side.", show_default="512"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of everything random.", show_default="0"),
    ] = None,
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

    Written to the folder: policy.npz, the policy itself, which runs without PyTorch; config.yaml;
    training.jsonl, one line per validation; checkpoint.pt to resume from. With several seeds these
    lie in a folder per seed, and policy.npz is the best of them by validation. Killed at any
    moment, the same command with --resume ends with the same weights as if it had not been.
    """
    positive(target_ms=target_ms, minutes=minutes)
    if attainment is not None:
        percent(attainment=attainment)
    if resume:
        no_file(out)
    else:
        unused(out)
    asked = configured(
        out,
        config,
        generalist=generalist,
        profiles=tuple(profile) if profile else None,
        traces=[*(traces or []), *(more or [])],
        target_ms=target_ms,
        attainment_ratio=None if attainment is None else attainment / 100.0,
        frames=frames,
        max_seconds=None if minutes is None else 60.0 * minutes,
        patience=patience,
        services=services,
        seed=seed,
    )
    asked = replace(asked, tensorboard=tensorboard, resume=resume)
    if seeds > 1:
        _every_seed(asked, seeds, jobs, as_json=as_json)
    else:
        _one(asked, as_json=as_json)


def configured(
    out: Path,
    file: Path | None,
    *,
    generalist: bool = False,
    traces: list[Path],
    **given: Any,
) -> TrainConfig:
    """Return what is to be trained: a file, or the defaults, with the options given over it.

    Args:
        out: Folder to write to.
        file: Configuration to start from.
        generalist: Whether to start from the shipped policy's.
        traces: Traces and folders of them; none keeps those of the configuration.
        given: Fields of :class:`TrainConfig`; ``None`` where the option was not given.

    Raises:
        InputInvalid: The file or an option is wrong; names it.
    """
    from gpupilot_agent.cli.scenes import files_of
    from gpupilot_agent.training_config import TrainConfig
    from gpupilot_agent.training_file import read_config, read_generalist
    from gpupilot_envs.errors import InputInvalid

    if generalist and file is not None:
        raise InputInvalid("--config", str(file), "no --config beside --generalist")
    base = TrainConfig(out=out)
    if generalist:
        base = read_generalist(out=out)
    elif file is not None:
        base = read_config(file, out=out)
    if traces:
        given["traces"] = files_of(traces)
    return replace(base, **{name: value for name, value in given.items() if value is not None})


def _one(config: TrainConfig, *, as_json: bool) -> None:
    from gpupilot_agent.bundle import load
    from gpupilot_agent.training import train as run

    with meter("training", 1.0) as told:
        path = run(config, lambda progress: told(progress.fraction, remark(progress)))
    bundle = load(path)
    if as_json:
        show.as_json({"bundle": str(path), "sha256": bundle.sha256, "card": dict(bundle.card)})
        return
    show.table("evaluation card", ("measure", "value"), card_rows(bundle.card))
    show.line(str(path))


def _every_seed(config: TrainConfig, seeds: int, jobs: int, *, as_json: bool) -> None:
    """Train with ``seeds`` seeds from the configuration's own on, and say what each came to."""
    from gpupilot_agent.training import BUNDLE
    from gpupilot_agent.training_seeds import train_seeds

    numbers = range(config.seed, config.seed + seeds)
    with meters([f"seed {seed}" for seed in numbers], 1.0) as told:

        def tell(seed: int, progress: Progress) -> None:
            told[seed - config.seed](progress.fraction, remark(progress))

        results = train_seeds(config, numbers, jobs=jobs, on_progress=tell)
    if as_json:
        show.as_json(seeds_document(results, config.out / BUNDLE))
        return
    columns = ("seed", "saved", "cost at objective", "at frame", "")
    show.table("GPU time saved on validation at equal attainment", columns, seed_rows(results))
    show.line(verdict(results))
    show.line(str(config.out / BUNDLE))


def seeds_document(results: tuple[Seeded, ...], path: Path) -> dict[str, Any]:
    """Return what several seeds came to, for a machine."""
    from gpupilot_agent.seed_spread import spread
    from gpupilot_agent.training_seeds import best_of

    return {
        "bundle": str(path),
        "best_seed": best_of(results).seed,
        "saving": asdict(spread(result.saving for result in results)),
        "seeds": [{**asdict(result), "path": str(result.path)} for result in results],
    }


def seed_rows(results: tuple[Seeded, ...]) -> list[tuple[str, ...]]:
    """Return one row per seed."""
    from gpupilot_agent.training_seeds import best_of

    best = best_of(results)
    return [
        (
            str(result.seed),
            saved(result.saving),
            "not reached" if result.cost_ratio is None else f"{result.cost_ratio:.4f}",
            f"{result.frames:,}",
            "kept" if result is best else "",
        )
        for result in results
    ]


def verdict(results: tuple[Seeded, ...]) -> str:
    """Return the mean over seeds with its interval and spread, as a sentence."""
    from gpupilot_agent.seed_spread import spread

    found = spread(result.saving for result in results)
    parts = [f"mean {saved(found.mean)}"]
    if found.ci95 is not None and found.deviation is not None:
        low, high = found.ci95
        parts.append(f"95 % interval {saved(low)} to {saved(high)}")
        parts.append(f"standard deviation {100 * found.deviation:.2f} %")
    if found.missing:
        parts.append(f"{found.missing} off the scale left out")
    return "; ".join(parts) + ". The kept seed was chosen by its number: expect the mean."


def saved(share: float | None) -> str:
    """Return a saving as people read it."""
    return "off the scale" if share is None else f"{100 * share:+.2f} %"


def remark(progress: Progress) -> str:
    """Return what to say beside the bar: attainment, cost, price, and what is saved so far."""
    parts = [progress.phase]
    if progress.attainment_ratio is not None:
        parts.append(f"{100 * progress.attainment_ratio:.2f} % in time")
    if progress.cost_ratio is not None:
        parts.append(f"{progress.cost_ratio:.3f} GPU time / demand")
    if progress.multiplier is not None:
        parts.append(f"late costs {progress.multiplier:.0f}")
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
