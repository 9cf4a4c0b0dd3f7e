"""The words round the figures: what was compared, how, and what the result cannot tell."""

from __future__ import annotations

from typing import Any

from gpupilot_agent.report.findings import listing
from gpupilot_agent.report.reading import Reading, percent


def facts(reading: Reading) -> list[tuple[str, str]]:
    """Return what was compared, for the first screen."""
    config = reading.summary.config
    traces, seeds = config["traces"], config["seeds"]
    bounds = len(reading.roles) - len(reading.contestants)
    return [
        ("Objective", f"{percent(reading.target)} within {reading.latency_ms:g} ms"),
        ("Policies", f"{len(reading.contestants)}" + (f" and {bounds} bounds" if bounds else "")),
        ("Traffic", f"{_count(len(traces), 'trace')}, {_hours(config):.3g} h scored"),
        ("Repetitions", _repetitions(reading, len(seeds))),
        ("Mean demand", _demand(config)),
    ]


def _repetitions(reading: Reading, seeds: int) -> str:
    trainings = len({row.bundle for row in reading.summary.trainings})
    told = _count(seeds, "seed")
    return told if trainings < 2 else f"{told}, {trainings} trainings"


def method(reading: Reading) -> list[str]:
    """Return how the numbers came about."""
    config = reading.summary.config
    scrape, cluster = config["scrape"], config["cluster"]
    return [
        "Every policy met the same requests: arrivals, execution noise and cold starts depend on "
        "trace, window and seed only (common random numbers).",
        "Every policy decided through the same guardrail and saw the same metrics: scraped every "
        f"{scrape['interval_s']:g} s, visible {scrape['delay_s']:g} s later, "
        f"balancing {cluster['balancing']}, {cluster['gpus']} GPUs.",
        "Attainment counts requests answered correctly within the target over all requests; "
        "rejections, time-outs and failures are misses. Cost counts GPU shares from binding to "
        "release, starting and draining pods included.",
        f"Each window is preceded by a warm-up of {config['warm_up_s']:g} s (less on short "
        "traces) that is not scored. Windows never touch gaps in the data. Bins longer than a "
        "minute are replayed along straight lines that keep their means.",
        _windows(config),
        "Policies that end in -tuned run the cheapest of equally many settings that met the "
        "objective on separate training traffic; the others run as published. The setting was "
        "fixed before any trace of this report was seen.",
        f"Intervals: {config['intervals']['resamples']} bootstrap samples, "
        "95 %, resampled in levels: traces, windows within them, seeds within those, and the "
        "trainings of the learned policy beside them. Differences are paired run by run.",
        "GPU-hours at an attainment are read between measured settings, linear in the logarithm "
        "of the late share, never beyond them.",
    ]


def limits(reading: Reading) -> list[str]:
    """Return what the result cannot tell."""
    config = reading.summary.config
    measured = config["profile"]["measured"]
    lines = [
        "Simulated, not measured on a cluster: every number is as good as the service profile "
        f"(how: {measured['how']}; where: {measured['where']}; when: {measured['when']}).",
        "Requests do not react: no retries, no clients that slow down, no request mix; the "
        "profile's curve stands for every request.",
        "The cluster has a fixed number of GPUs: no node is provisioned, nobody else takes them.",
        f"Inside a bin arrivals are a renewal process with coefficient of variation "
        f"{config['cv']:g}; real traffic may be burstier.",
        "Recorded rates are scaled to the service. They are open traffic of other services, not "
        "of this one.",
    ]
    if "static-peak" in reading.roles:
        lines.append("static-peak is told the busiest minute of the scored traffic beforehand.")
    if "oracle" in reading.roles:
        lines.append(
            "oracle plans replicas with every arrival known, by dynamic programming that splits "
            "requests evenly and ignores backlog, then plays the plan in the same world. Its "
            "margin is chosen in hindsight, run by run. It is a strong reference, not a proof "
            "that nothing cheaper exists."
        )
    if "clairvoyant" in reading.roles:
        lines.append(
            "clairvoyant knows the mean rate of every minute to come and nothing finer; its "
            "margin is chosen in hindsight, run by run."
        )
    lonely = [family for family in reading.summary.families if len(reading.windows(family)) == 1]
    if lonely:
        lines.append(
            f"Of {listing(lonely)} one window was scored: their intervals cover arrivals and "
            "trainings, not other hours or days, and are too narrow."
        )
    if len(reading.summary.traces) < 5:
        lines.append(
            f"{_count(len(reading.summary.traces), 'trace')} cannot stand for all traffic: the "
            "intervals tell the noise of these, not what another service would see."
        )
    return lines


def command(reading: Reading) -> str:
    """Return the command that repeats the comparison, inputs by name."""
    config = reading.summary.config
    parts = [
        f"gpupilot compare --profile {config['profile']['name']}.yaml",
        f"--traces {' '.join(config['traces'])}",
        f"--policies {','.join(config['policies'])}",
        f"--target-ms {reading.latency_ms:g} --attainment {100 * reading.target:g}",
        f"--seeds {len(config['seeds'])}",
    ]
    if config["scale_to_replicas"] is not None:
        parts.append(f"--scale-to-replicas {config['scale_to_replicas']:g}")
    if config["hours"] is not None:
        parts.append(f"--hours {config['hours']:g}")
    return " \\\n  ".join([*parts, "--out DIR"])


def trace_note(reading: Reading, trace: str) -> str:
    """Return one line on a trace: its family, what was scored, and who did best."""
    described = reading.summary.config["traces"][trace]
    scored_s = sum(window["end_s"] - window["start_s"] for window in described["windows"])
    winner = reading.winner(trace)
    verdict = (
        f"cheapest that met the objective: {winner}" if winner else "no policy met the objective"
    )
    count = _count(len(described["windows"]), "window")
    return f"{described['family']}; {scored_s / 3600.0:.3g} h in {count}; {verdict}"


def _windows(config: dict[str, Any]) -> str:
    if config["hours"] is None:
        return "Every trace was scored whole."
    return (
        f"Of each trace at most {config['hours']:g} h were scored, in windows of an hour spread "
        "over its days and hours by a fixed rule; config.yaml lists them."
    )


def _hours(config: dict[str, Any]) -> float:
    windows = [window for trace in config["traces"].values() for window in trace["windows"]]
    return float(sum(window["end_s"] - window["start_s"] for window in windows)) / 3600.0


def _demand(config: dict[str, Any]) -> str:
    each = f"{config['capacity']['slo_rps']:.3g} requests/s"
    if config["scale_to_replicas"] is not None:
        return f"{config['scale_to_replicas']:g} replicas of {each}"
    return f"as recorded, {each} a replica"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
