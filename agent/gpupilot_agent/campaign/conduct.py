"""Makes the runs of a campaign, one after another, each into a folder that is whole or not there.

Per run: stack up, saturation measured with waiting users, the load sent by Locust while the
servers' batches are counted, Prometheus read as ``gpupilot record`` does, stack down. A run that
is there already is not made again; one whose generator was late is refused.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpupilot_agent.campaign.cards import Outcome, card_of, sentence
from gpupilot_agent.campaign.declaration import Run
from gpupilot_agent.campaign.generator import Generator, end_earlier
from gpupilot_agent.campaign.loads import load_of, saturating
from gpupilot_agent.campaign.packing import pack
from gpupilot_agent.campaign.readings import write_readings
from gpupilot_agent.stack import lifecycle
from gpupilot_agent.stack.plan import LOOPBACK, StackPlan
from gpupilot_agent.stack.state import StackState
from gpupilot_agent.stack.tools import Say
from gpupilot_agent.tracking import held
from gpupilot_agent.triton.repository import MODEL
from gpupilot_envs.atomic import atomic_folder
from gpupilot_envs.errors import GpupilotError, StackFailed
from gpupilot_envs.runs import CARD, RECORDING, REQUESTS, RunCard, write_run
from gpupilot_envs.triton_server import BatchWatch

SCRAPED_S = 2.5
"""After the end, until Prometheus holds the last of it."""

EXPECTED = {"ok", "unfinished"}
"""How requests may end; what an ended run leaves unfinished was late already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """Where and how runs are made.

    Attributes:
        out: Folder of the runs: ``<flavour>/<run>`` below it, and what is not kept in ``.work``.
        scripts: Our Locust users.
        onnx: The model of the cpu flavour, where one is among the runs.
        realtime: Whether stack and load run before everything else.
        say: Told what happens.
    """

    out: Path
    scripts: Path
    onnx: Path | None
    realtime: bool
    say: Say

    def work_of(self, run: Run) -> Path:
        """Return the folder of what a run leaves when it is not finished."""
        return self.out / ".work" / f"{run.flavour}-{run.name}"


def conduct(runs: Iterable[Run], shop: Workshop) -> dict[str, str]:
    """Make runs; what fails is said, and the next one is made.

    Returns:
        Why each run failed, by its name; empty when all are there.
    """
    failed = {}
    for run in runs:
        name = f"{run.flavour}/{run.name}"
        if (shop.out / name / CARD).exists():
            shop.say(f"{name}: there already")
            continue
        try:
            shop.say(f"{name}: {sentence(make(run, shop))}")
        except GpupilotError as error:
            failed[name] = str(error)
            shop.say(f"{name}: not kept: {error}")
    return failed


def make(run: Run, shop: Workshop) -> RunCard:
    """Make one run and return its card.

    Raises:
        GpupilotError: It could not be made, or says nothing about the servers; nothing is kept.
    """
    work = shop.work_of(run)
    with held(work, "run of a campaign"):
        _clear(work)
        plan = _stack_plan(run, shop, work / "stack")
        started = lifecycle.up(plan, say=lambda _: None)
        try:
            with atomic_folder(shop.out / run.flavour / run.name) as folder:
                card = _measure(run, started, shop, folder)
                write_run(folder, card)
        finally:
            lifecycle.down(plan.folder)
            _clear(work)
    return card


def _measure(run: Run, started: StackState, shop: Workshop, folder: Path) -> RunCard:
    """Send the load, write what came of it into ``folder``, and return the card."""
    work, host = shop.work_of(run), started.gateway_url
    before = saturating(run, host=host, folder=work / "saturation", realtime=shop.realtime)
    found = Generator(before, shop.scripts).finished()
    _must_be_valid(found)
    saturation_rps = round(float(found["offered_rps"]), 2)
    load = load_of(run, saturation_rps, host=host, folder=work / "load", realtime=shop.realtime)
    begins_s, batches, summary = _sent(run, started, Generator(load, shop.scripts))
    _must_be_valid(summary)
    time.sleep(SCRAPED_S)
    write_readings(run, started, folder / RECORDING, begins_s=begins_s, batches=batches)
    sent = pack(load.requests, folder / REQUESTS)
    outcome = Outcome(load=load, summary=summary, saturation_rps=saturation_rps, sent=sent)
    return card_of(run, started, outcome)


def _sent(
    run: Run, started: StackState, generator: Generator
) -> tuple[float, Mapping[int, tuple[int, float]], dict[str, Any]]:
    """Wait until all is sent; return when the count began, the batches since, the summary."""
    begins_s = generator.began_s + run.warm_up_s
    urls = [f"http://{LOOPBACK}:{ports.http}" for ports in started.replicas.values()]
    try:
        _sleep_until(begins_s)
        watch = BatchWatch(urls, MODEL)
        _sleep_until(begins_s + run.duration_s)
        batches = watch.grown()
    except BaseException:
        generator.stop()
        raise
    return begins_s, batches, generator.finished()


def _sleep_until(at_s: float) -> None:
    time.sleep(max(at_s - time.time(), 0.0))


def _stack_plan(run: Run, shop: Workshop, folder: Path) -> StackPlan:
    return StackPlan(
        flavour=run.flavour,
        folder=folder,
        profile=run.service(),
        model=shop.onnx if run.flavour == "cpu" else None,
        replicas=run.replicas,
        balancing=run.balancing,
        target_ms=run.target_ms,
        seed=run.seed,
        realtime=shop.realtime,
    )


def _must_be_valid(found: Mapping[str, Any]) -> None:
    """Refuse a run whose generator was late, or in which requests failed.

    Raises:
        StackFailed: Says which.
    """
    if not found["valid"]:
        raise StackFailed(found["verdict"])
    failures = {reason: n for reason, n in found["reasons"].items() if reason not in EXPECTED}
    if failures:
        said = ", ".join(f"{n} {reason}" for reason, n in failures.items())
        raise StackFailed(f"requests failed: {said}, of {found['requests']}")


def _clear(work: Path) -> None:
    """End and remove what a run left, a killed one too."""
    lifecycle.down(work / "stack")
    for name in ("saturation", "load"):
        end_earlier(work / name)
        shutil.rmtree(work / name, ignore_errors=True)
