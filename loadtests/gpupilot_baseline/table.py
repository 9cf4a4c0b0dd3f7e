"""The baseline as a table, with the original experiment's one row as a reference."""

from __future__ import annotations

from gpupilot_baseline.results import Level, Summary

COLUMNS = (
    "users",
    "mean ms",
    "p95 ms",
    "p99 ms",
    "requests/s",
    "success %",
    "in time %",
    "busy %",
    "mean batch",
    "CPU cores",
    "memory MiB",
    "GPU %",
    "GPU MiB",
)
REFERENCE = ("*10*", "*72*", "*74*", "*81*", "*13*", "", "", "", "", "", "", "*43*", "")
"""Of the experiment this project began with: an RTX 3080, another machine and another client."""


def table(summary: Summary) -> str:
    """Return the table in Markdown."""
    lines = [_line(COLUMNS), _line(["---"] * len(COLUMNS))]
    lines += [_line(_row(level)) for level in summary.levels]
    lines += [_line(REFERENCE), ""]
    lines.append(
        f"{summary.flavour}, {summary.config['protocol']}, each user pauses "
        f"{summary.config['think_s']:g} s on average; in time: within {summary.target_ms:g} ms; "
        "busy: share of time a model instance executes. *In italics: the original experiment on an "
        "RTX 3080, another machine, server and client; a reference, no comparison.*"
    )
    if not all(level.valid for level in summary.levels):
        lines.append(
            "(!) The load generator was late itself: these latencies are not the server's."
        )
    return "\n".join(lines) + "\n"


def _row(level: Level) -> list[str]:
    latency = level.latency_ms
    return [
        f"{level.users}{'' if level.valid else ' (!)'}",
        _number(latency.mean, ".1f"),
        _number(latency.p95, ".1f"),
        _number(latency.p99, ".1f"),
        _number(level.throughput_rps, ".1f"),
        _number(level.success_percent, ".2f"),
        _number(level.attainment_percent, ".2f"),
        _number(level.busy_percent, ".1f"),
        _number(level.batch_mean, ".2f"),
        _number(level.cpu_cores, ".2f"),
        _number(level.memory_mib, ".0f"),
        _number(level.gpu_percent, ".0f"),
        _number(level.gpu_memory_mib, ".0f"),
    ]


def _number(value: float | None, form: str) -> str:
    return "\N{EN DASH}" if value is None else format(value, form)


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
