"""Where the API server is and who we are to it, read anew when it no longer knows us.

In a pod the kubelet replaces the account's token in time and the client reads it every minute. A
kubeconfig may hold a token, or name a file or a program that gives one: somebody replaces it when
it has run out, and no client hears of that before it is refused.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable

import yaml
from kubernetes import client, config

from gpupilot_envs.errors import ClusterUnavailable

AGAIN_S = 10.0
"""Least time between two readings: who is refused for good asks no program at every request."""
_log = logging.getLogger(__name__)


class Access:
    """The API server's client; may be shared by threads.

    Attributes:
        client: As we are known now.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Read our pod's account, else the kubeconfig; ``KUBECONFIG`` goes before both.

        Args:
            clock: Seconds that never go back.

        Raises:
            ClusterUnavailable: Neither says where the API server is.
        """
        self._named = os.environ.get("KUBECONFIG")
        self._lock = threading.Lock()
        self._clock = clock
        self._read_s = -math.inf
        self.client = client.ApiClient(_read(self._named))

    def renewed(self, refused: client.ApiClient) -> bool:
        """Read anew who we are, and say whether it is worth asking again.

        Args:
            refused: The client that the API server did not know.
        """
        with self._lock:
            if self.client is not refused:
                return True
            if self._clock() - self._read_s < AGAIN_S:
                return False
            self._read_s = self._clock()
            try:
                self.client = client.ApiClient(_read(self._named))
            except ClusterUnavailable as error:
                _log.warning("the API server knows us no longer: %s", error)
                return False
            _log.info("the API server knew us no longer: read anew who we are")
            return True

    def close(self) -> None:
        """Close the connections."""
        self.client.close()


def _read(named: str | None) -> client.Configuration:
    """Return what is known now, of a file that may be being written.

    Raises:
        ClusterUnavailable: It says nothing that can be read.
    """
    made = client.Configuration()
    try:
        if named is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=made)
        else:
            config.load_kube_config(named, client_configuration=made)
    except (config.ConfigException, yaml.YAMLError, OSError, TypeError, ValueError) as error:
        raise ClusterUnavailable(f"no API server: {error}") from error
    # what may be sent again is decided by verb and answer, and not by the transport
    made.retries = False
    made.connection_pool_maxsize = 32
    return made
