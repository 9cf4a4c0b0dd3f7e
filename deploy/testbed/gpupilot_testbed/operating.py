"""A Prometheus and the operator beside a full cluster, as a user of it needs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path

from gpupilot_agent.stack import processes
from gpupilot_agent.stack.tools import Say
from gpupilot_testbed import discovery, observing, operators
from gpupilot_testbed.api import Api, done
from gpupilot_testbed.operators import Operator


@contextmanager
def operated(
    kubeconfig: Path, folder: Path, say: Say, *, scraped_every: str = "5s", **settings: str
) -> Iterator[tuple[Operator, str]]:
    """Run both while the context lasts; yield the operator, not waited for, and Prometheus' URL.

    Args:
        kubeconfig: Of a cluster that runs and knows the definition.
        folder: For their files.
        say: Told in one line each what takes time.
        scraped_every: How often pods are scraped and looked for.
        settings: Of the operator, see :func:`.operators.start`.

    Raises:
        StackFailed: Prometheus cannot be had or started; says why.
    """
    with ExitStack() as stack:
        _make_namespace(kubeconfig)
        pods = stack.enter_context(discovery.pods(kubeconfig))
        configuration = observing.in_cluster(pods, every=scraped_every)
        process, url = observing.start(folder / "prometheus", configuration, say)
        stack.callback(processes.stop, [process])
        operator = operators.start(folder / "operator-0", kubeconfig, url, **settings)
        stack.callback(operator.stop)
        yield operator, url


def _make_namespace(kubeconfig: Path) -> None:
    """Make the namespace of the operator's lease, unless it is there."""
    body = {"metadata": {"name": operators.NAMESPACE}}
    with Api(kubeconfig) as api:
        answer = api.ask("POST", "/api/v1/namespaces", body)
        if answer.status != HTTPStatus.CONFLICT:
            done(answer)
