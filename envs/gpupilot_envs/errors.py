"""The one tree of errors a user can meet.

::

    GpupilotError
    ├── InputInvalid      a file, field or option is wrong; says field, value and what is allowed
    │   ├── ProfileInvalid
    │   ├── TraceInvalid
    │   ├── SpecInvalid
    │   └── SloInfeasible    no batch size can meet the latency target
    ├── OutputRefused     the result cannot be written: directory in use, disk full
    ├── BundleRefused     a policy artefact does not fit this code, or is not the one meant
    ├── ExtraMissing      an optional package is not installed
    ├── MetricsUnavailable  Prometheus cannot be reached or refuses the query
    ├── ClusterUnavailable  the Kubernetes API cannot be reached or refuses a list
    ├── ChangeRefused     a decision cannot be carried out as the cluster stands
    └── StackFailed       the serving stack or the test cluster cannot be had, started or stopped
"""

from __future__ import annotations


class GpupilotError(Exception):
    """Base of every error that is the caller's to read, never a traceback."""


class InputInvalid(GpupilotError):
    """Something the user gave is wrong.

    Args:
        field: What is wrong, as the user knows it: an option, a column, a YAML path.
        value: The offending value as it was read.
        allowed: What would have been accepted, in words.
    """

    def __init__(self, field: str, value: object, allowed: str) -> None:
        """Keep the three parts apart so that a machine can read them too."""
        self.field = field
        self.value = value
        self.allowed = allowed
        super().__init__(f"{field}: {value!r} is not allowed; expected {allowed}")


class ProfileInvalid(InputInvalid):
    """A service profile does not follow ``gpupilot/profile-v1``."""


class TraceInvalid(InputInvalid):
    """A rate trace, arrival file or recording cannot be used."""


class SpecInvalid(InputInvalid):
    """A custom resource holds what its schema would have refused."""


class SloInfeasible(InputInvalid):
    """No batch size of the service meets the latency target even when idle."""


class OutputRefused(GpupilotError):
    """The result cannot be written where it was asked for."""


class BundleRefused(GpupilotError):
    """A policy bundle does not fit the tables of this code, or is not the one that was meant."""


class ExtraMissing(GpupilotError):
    """Something asked for needs a package that is installed only on request.

    Args:
        what: What was asked for, in words.
        extra: The extra of this distribution that brings the package.
    """

    def __init__(self, what: str, extra: str) -> None:
        """Say which extra to install."""
        super().__init__(f"{what} needs more packages: pip install 'gpupilot[{extra}]'")


class MetricsUnavailable(GpupilotError):
    """Prometheus cannot be reached, is not one, or refuses a query.

    Args:
        sentence: What was asked of whom, and what it said.
        passing: Whether trying again later may help.
    """

    def __init__(self, sentence: str, *, passing: bool) -> None:
        """Keep apart what a caller decides by."""
        self.passing = passing
        super().__init__(sentence)


class ClusterUnavailable(GpupilotError):
    """The Kubernetes API cannot be found or reached, or refuses what is needed of it."""


class ChangeRefused(GpupilotError):
    """A decision cannot be carried out as the cluster stands; a later one may."""


class ChangeOvertaken(ChangeRefused):
    """Something else changed meanwhile what a decision was made on: it is made anew."""


class StackFailed(GpupilotError):
    """The serving stack (Triton, gateway, Prometheus), its model or a test cluster fails.

    Args:
        sentence: What went wrong and what to do.
        log: The last lines of the program that failed, if any.
    """

    def __init__(self, sentence: str, *, log: str = "") -> None:
        """Keep the log apart: it is many lines, the sentence is one."""
        self.log = log
        super().__init__(sentence)
