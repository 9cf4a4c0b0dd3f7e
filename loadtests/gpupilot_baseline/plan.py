"""What a baseline is asked to be, from the command line."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gpupilot_envs.errors import InputInvalid

USERS = "10,50,100"
THINK_S = 0.7
"""Ten users who pause this long come to the original experiment's 13 requests/s."""
USERS_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One baseline.

    Attributes:
        flavour: Of the stack that is started, ``emulated`` or ``cpu``.
        url: A server that runs already, instead of a stack; empty for none.
        triton: Addresses of its replicas, for batch statistics.
        prometheus: Where its GPU and gateway are read; empty for nowhere.
        users: Levels, in the order they are run.
        seconds: Length of each level that counts.
        warm_up_s: Before it, not counted.
        think_s: Mean pause of a user after an answer, exponential.
        target_ms: Latency target of the attainment.
        protocol: ``http`` or ``grpc``.
        stack_options: Passed on to ``gpupilot stack up``.
        seed: Of pictures and pauses.
        out: Folder of the result; must not hold anything.
    """

    flavour: str
    url: str
    triton: tuple[str, ...]
    prometheus: str
    users: tuple[int, ...]
    seconds: float
    warm_up_s: float
    think_s: float
    target_ms: float
    protocol: str
    stack_options: tuple[str, ...]
    seed: int
    out: Path


def parse(words: Sequence[str]) -> Plan:
    """Return the plan the command line describes.

    Raises:
        InputInvalid: A value is out of its range; names the option.
    """
    options = _parser().parse_args(words)
    for name, value, least in (
        ("--seconds", options.seconds, 1.0),
        ("--warm-up", options.warm_up, 0.0),
        ("--think-s", options.think_s, 0.0),
        ("--target-ms", options.target_ms, 0.001),
    ):
        if not least <= value < math.inf:
            raise InputInvalid(name, value, f"a finite number of at least {least:g}")
    started = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return Plan(
        flavour=options.flavour,
        url=options.url,
        triton=tuple(options.triton or ([options.url] if options.url else [])),
        prometheus=options.prometheus,
        users=_levels(options.users),
        seconds=options.seconds,
        warm_up_s=options.warm_up,
        think_s=options.think_s,
        target_ms=options.target_ms,
        protocol=options.protocol,
        stack_options=tuple(options.stack_option),
        seed=options.seed,
        out=Path(options.out or f"results/baseline/{started}"),
    )


def _levels(text: str) -> tuple[int, ...]:
    try:
        users = tuple(int(word) for word in text.split(","))
    except ValueError:
        users = ()
    if not users or not all(1 <= count <= USERS_MAX for count in users):
        raise InputInvalid("--users", text, f"numbers from 1 to {USERS_MAX}, such as {USERS}")
    return users


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="baseline", description="Measure 10, 50 and 100 closed-loop users on the real stack."
    )
    parser.add_argument("--flavour", choices=("emulated", "cpu"), default="emulated")
    parser.add_argument("--users", default=USERS, help="levels, one after another")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each level that count")
    parser.add_argument("--warm-up", type=float, default=5.0, help="seconds before, not counted")
    parser.add_argument("--think-s", type=float, default=THINK_S, help="mean pause; 0: none")
    parser.add_argument("--target-ms", type=float, default=60.0, help="for the attainment")
    parser.add_argument("--protocol", choices=("http", "grpc"), default="http")
    parser.add_argument("--seed", type=int, default=0, help="of pictures and pauses")
    parser.add_argument("--out", default="", help="folder; default: results/baseline/<time>")
    stack = parser.add_argument_group("the stack it starts and takes down")
    stack.add_argument(
        "--stack-option",
        action="append",
        default=[],
        metavar="OPTION",
        help="passed to `gpupilot stack up`, such as --stack-option=--replicas=2",
    )
    other = parser.add_argument_group("a server that runs already, instead")
    other.add_argument("--url", default="", help="its address, such as http://gpu-host:8000")
    other.add_argument("--triton", action="append", metavar="URL", help="replicas; default: --url")
    other.add_argument("--prometheus", default="", help="for GPU and gateway", metavar="URL")
    return parser
