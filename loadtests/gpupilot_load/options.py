"""Command-line options beside Locust's own; Locust also shows them in its web page."""

from __future__ import annotations

import math
from typing import Any

from gpupilot_envs.errors import InputInvalid
from gpupilot_load.tally import Objective

LAG_LIMIT_MS = 5.0


def add_common(parser: Any) -> None:
    """Add what both loops take."""
    group = parser.add_argument_group("gpupilot")
    group.add_argument("--model", default="mobilenetv4", help="Model on the server.")
    group.add_argument("--images", default="", help="Folder of pictures; default: drawn ones.")
    group.add_argument("--slo-ms", type=float, default=0.0, help="Judge the run: latency target.")
    group.add_argument("--slo-percent", type=float, default=99.0, help="Share within the target.")
    group.add_argument(
        "--warm-up", type=float, default=5.0, help="Seconds at the start that are not counted."
    )
    group.add_argument("--timeout-s", type=float, default=30.0, help="Then a request has failed.")
    group.add_argument(
        "--lag-limit-ms",
        type=float,
        default=LAG_LIMIT_MS,
        help="A run whose generator lags by more (p99) is invalid.",
    )
    group.add_argument("--requests", default="", help="Every request: a .parquet or .csv file.")
    group.add_argument("--summary", default="", help="The run in numbers: a .json file.")
    group.add_argument("--seed", type=int, default=0, help="Of pictures, arrivals and pauses.")


def add_closed(parser: Any) -> None:
    """Add what only closed-loop users take."""
    parser.add_argument(
        "--think-s", type=float, default=0.0, help="Mean pause after an answer, exponential."
    )


def add_open(parser: Any) -> None:
    """Add what only open-loop arrivals take."""
    group = parser.add_argument_group("open loop: exactly one of --rate, --trace, --arrivals")
    group.add_argument("--rate", type=float, default=0.0, help="Requests per second.")
    group.add_argument("--trace", default="", help="Rate trace (t_s, rps) or a recording.")
    group.add_argument("--arrivals", default="", help="Exact arrival times (t_s).")
    group.add_argument("--duration", type=float, default=0.0, help="Seconds; 0: all of the file.")
    group.add_argument("--mean-rps", type=float, default=0.0, help="Scale the trace to this mean.")
    group.add_argument("--speed", type=float, default=1.0, help="Play the trace so much faster.")
    group.add_argument("--trace-start", type=float, default=0.0, help="Seconds to leave out.")
    group.add_argument("--cv", type=float, default=1.0, help="Of arrival gaps; 1 is Poisson.")
    group.add_argument(
        "--in-flight", type=int, default=512, help="Most requests in flight per worker."
    )


def objective(options: Any) -> Objective:
    """Return what the run must keep.

    Raises:
        InputInvalid: A number is out of its range; names the option.
    """
    for name, value in (
        ("--timeout-s", options.timeout_s),
        ("--lag-limit-ms", options.lag_limit_ms),
    ):
        if not 0.0 < value < math.inf:
            raise InputInvalid(name, value, "a finite number above 0")
    for name, value in (("--slo-ms", options.slo_ms), ("--warm-up", options.warm_up)):
        if not 0.0 <= value < math.inf:
            raise InputInvalid(name, value, "a finite number of 0 or more")
    if not 0.0 < options.slo_percent <= 100.0:
        raise InputInvalid("--slo-percent", options.slo_percent, "above 0, at most 100")
    return Objective(
        target_s=options.slo_ms / 1000.0 if options.slo_ms else None,
        attainment_ratio=options.slo_percent / 100.0,
        lag_limit_s=options.lag_limit_ms / 1000.0,
    )
