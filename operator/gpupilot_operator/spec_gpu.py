"""``spec.gpu``: what a pod holds of a GPU, what it asks for to hold it, how far that may change."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from gpupilot_operator.spec_fields import Part, Quantity, rule, rules, worded

WHOLE_GPU_MILLI = 1000


class Sharing(StrEnum):
    """How several pods come to one GPU (``docs/actuators.md``)."""

    NONE = "None"
    TIME_SLICING = "TimeSlicing"
    MPS = "MPS"
    MIG = "MIG"
    HAMI = "HAMi"


class Share(Part):
    """One share a pod may hold, and what its container then asks for."""

    milli: int = Field(ge=1, le=WHOLE_GPU_MILLI, description="Thousandths of one GPU.")
    resources: Annotated[dict[str, Quantity], Field(min_length=1, max_length=4)] = Field(
        description="Limits that bring this share, such as nvidia.com/mig-1g.10gb: 1 with MIG, or "
        "nvidia.com/gpu: 1 and nvidia.com/gpucores: 25 with HAMi."
    )


class Gpu(Part):
    """What one pod holds of a GPU, in thousandths, and how far that may be changed."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.minShareMilli <= self.maxShareMilli",
                "must not exceed maxShareMilli",
                path=".minShareMilli",
            ),
            rule(
                "self.sharing != 'None' || self.minShareMilli == 1000",
                "a share below 1000 needs sharing: TimeSlicing, MPS, MIG or HAMi",
                path=".minShareMilli",
            ),
            rule(
                "self.sharing == 'None' || size(self.shares) > 0",
                "sharing needs shares: what a pod asks for to hold each, such as "
                "{milli: 142, resources: {nvidia.com/mig-1g.10gb: 1}}",
                path=".shares",
            ),
            rule(
                "self.shares.all(share, self.minShareMilli <= share.milli && "
                "share.milli <= self.maxShareMilli)",
                "must lie between minShareMilli and maxShareMilli",
                path=".shares",
            ),
            rule(
                "!has(self.budgetMilli) || self.budgetMilli >= self.minShareMilli",
                "must hold at least one pod of minShareMilli",
                path=".budgetMilli",
            ),
        )
    )

    resource_name: Annotated[
        str,
        worded(
            r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$",
            "must be a resource of a device plugin, such as nvidia.com/gpu",
            most=128,
        ),
    ] = Field(default="nvidia.com/gpu", description="Resource a device plugin offers on the nodes.")
    sharing: Sharing = Field(
        default=Sharing.NONE,
        description="How a GPU is shared: None, TimeSlicing, MPS, MIG or HAMi; it must be set up "
        "on the nodes.",
    )
    min_share_milli: int = Field(
        default=WHOLE_GPU_MILLI, ge=1, le=WHOLE_GPU_MILLI, description="Least share of a pod."
    )
    max_share_milli: int = Field(
        default=WHOLE_GPU_MILLI, ge=1, le=WHOLE_GPU_MILLI, description="Largest share of a pod."
    )
    shares: Annotated[
        tuple[Share, ...],
        Field(
            max_length=8,
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["milli"],
            },
        ),
    ] = Field(
        default=(),
        description="The shares there are, each with what a pod asks for to hold it; without "
        "sharing a pod asks for one whole resourceName.",
    )
    budget_milli: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="Most GPU that all pods may hold together; default: no bound."
    )

    @property
    def offered(self) -> tuple[int, ...]:
        """The shares there are, ascending."""
        return tuple(sorted(share.milli for share in self.shares)) or (WHOLE_GPU_MILLI,)

    def asked(self, share_milli: int) -> dict[str, str]:
        """Return the device limits of a container that is to hold a share.

        Args:
            share_milli: Thousandths of one GPU, one of those there are.

        Raises:
            ValueError: There is no such share.
        """
        for share in self.shares:
            if share.milli == share_milli:
                return dict(share.resources)
        if share_milli == WHOLE_GPU_MILLI:
            return {self.resource_name: "1"}
        known = ", ".join(str(share.milli) for share in self.shares) or str(WHOLE_GPU_MILLI)
        raise ValueError(f"no share of {share_milli} thousandths; there are {known}")
