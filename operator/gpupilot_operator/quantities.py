"""Quantities as Kubernetes writes them, compared as numbers: ``1`` is ``1000m``."""

from __future__ import annotations

import re
from decimal import Decimal
from math import ceil

_FORM = re.compile(r"([+-]?[0-9]*\.?[0-9]+|[+-]?[0-9]+\.)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?")
_POWERS_OF_TEN = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_POWERS_OF_TWO = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


def quantity(value: object) -> Decimal | None:
    """Return what a quantity amounts to, ``None`` where it is none.

    Args:
        value: A text such as ``500m``, ``2Gi`` or ``1e3``, or a number.
    """
    found = _FORM.fullmatch(str(value))
    if found is None:
        return None
    amount, suffix = Decimal(found[1]), found[2] or ""
    if suffix in _POWERS_OF_TEN:
        return amount.scaleb(_POWERS_OF_TEN[suffix])
    if suffix in _POWERS_OF_TWO:
        return amount * Decimal(2 ** _POWERS_OF_TWO[suffix])
    return amount.scaleb(int(suffix[1:])) if suffix else amount


def milli(value: object) -> int | None:
    """Return a quantity in thousandths, rounded up; ``None`` where it is none."""
    amount = quantity(value)
    return None if amount is None else ceil(amount * 1000)


def whole(value: object) -> int | None:
    """Return a quantity in whole units, rounded up; ``None`` where it is none."""
    amount = quantity(value)
    return None if amount is None else ceil(amount)
