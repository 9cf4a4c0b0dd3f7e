"""``gpupilot train --fine-tune``: adapt a policy to one service, and say whether it took over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gpupilot_agent.cli import show
from gpupilot_agent.cli.outcome import ExitCode
from gpupilot_agent.cli.progress import counter, meter

if TYPE_CHECKING:
    from gpupilot_agent.finetune import FineTuned


def fine_tune(
    out: Path,
    recordings: Sequence[Path],
    profiles: Sequence[str],
    *,
    start: Path | None,
    target_ms: float,
    attainment: float,
    frames: int | None,
    seed: int,
    jobs: int,
    as_json: bool,
) -> None:
    """Adapt a policy to a service's recordings; exit code 3 where the incumbent stays.

    Args:
        out: Folder to write to.
        recordings: Of the service.
        profiles: What it costs to run: one profile, calibrated on it.
        start: Policy to adapt and to beat; ``None`` for the one that ships.
        target_ms: Latency target in milliseconds.
        attainment: Percent of requests that must be in time.
        frames: Service-decisions to train on; ``None`` for as many as usual.
        seed: Of the training.
        jobs: Processes for judging.
        as_json: Whether to print JSON.

    Raises:
        InputInvalid: No recording, or not one profile.
    """
    from dataclasses import replace

    from gpupilot_agent.cli.scenes import bundle_file
    from gpupilot_agent.finetune import FineTuneConfig
    from gpupilot_agent.finetune import fine_tune as run
    from gpupilot_envs.embedded import find_profile
    from gpupilot_envs.errors import InputInvalid
    from gpupilot_envs.limits import Targets
    from gpupilot_envs.workload.recording import read_recording

    if not recordings:
        raise InputInvalid("--recordings", "nothing", "recordings of the service to adapt to")
    if len(profiles) != 1:
        raise InputInvalid("--profile", len(profiles), "one profile, calibrated on the service")
    targets = Targets(latency_s=target_ms / 1000.0, attainment_ratio=attainment / 100.0)
    config = FineTuneConfig(out=out, targets=targets, seed=seed)
    if start is not None:
        config = replace(config, incumbent=bundle_file(start))
    if frames is not None:
        config = replace(config, frames=frames)
    with meter("adapting", 1.0) as adapting, counter("judging") as judging:
        came_to = run(
            [read_recording(path) for path in recordings],
            config,
            profile=find_profile(profiles[0]),
            jobs=jobs,
            on_training=lambda progress: adapting(progress.fraction, progress.phase),
            on_judging=judging,
        )
    if as_json:
        show.as_json(document(came_to))
    else:
        show.line(came_to.judged.sentence)
        show.line(verdict(came_to))
    if not came_to.judged.wins:
        raise typer.Exit(ExitCode.ANSWER_IS_NO)


def document(came_to: FineTuned) -> dict[str, object]:
    """Return what fine-tuning came to, for a machine."""
    from dataclasses import asdict

    judged = came_to.judged
    return {
        "takes_over": judged.wins,
        "bundle": str(came_to.path),
        "candidate": str(came_to.candidate),
        **asdict(judged),
    }


def verdict(came_to: FineTuned) -> str:
    """Return who is to be deployed, and why the candidate is not where it is not."""
    judged = came_to.judged
    if judged.wins:
        return f"{came_to.path}: the candidate takes over"
    reason = "it is not surely cheaper"
    if judged.later:
        reason = "it misses the objective by more than the incumbent does"
    elif judged.relative.ci95 is not None and judged.relative.ci95[0] > 0.0:
        reason = "it is surely dearer"
    return f"{came_to.path} stays, because {reason}; the candidate is kept as {came_to.candidate}"
