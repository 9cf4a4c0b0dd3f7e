"""Waking up on time: the kernel's own timer, because an event loop rounds up to a millisecond."""

from __future__ import annotations

import ctypes
import os
import sys
import time

import gevent

CLOEXEC_NONBLOCK = 0o2000000 | 0o4000
ABSOLUTE = 1
READ = 1


class _Moment(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Moment), ("value", _Moment))


class Ticker:
    """Sleeps until a time of ``time.monotonic``; to a few tens of microseconds on Linux.

    libev waits in whole milliseconds, rounded up; a ``timerfd`` does not. Elsewhere than on Linux
    the event loop's own sleep is used, and the lag that is recorded shows it.
    """

    def __init__(self) -> None:
        """Take a timer from the kernel where it has one."""
        self._descriptor = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._descriptor = self._libc.timerfd_create(time.CLOCK_MONOTONIC, CLOEXEC_NONBLOCK)
        if self._descriptor >= 0:
            self._ready = gevent.get_hub().loop.io(self._descriptor, READ)

    def sleep_until(self, monotonic_s: float) -> None:
        """Let other greenlets run until then; returns at once when it has passed."""
        if monotonic_s <= time.monotonic():
            return
        if self._descriptor < 0:
            gevent.sleep(max(monotonic_s - time.monotonic(), 0.0))
            return
        setting = _Setting()
        setting.value.seconds = int(monotonic_s)
        setting.value.nanoseconds = int((monotonic_s - int(monotonic_s)) * 1e9)
        if self._libc.timerfd_settime(self._descriptor, ABSOLUTE, ctypes.byref(setting), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        gevent.get_hub().wait(self._ready)
        os.read(self._descriptor, 8)

    def close(self) -> None:
        """Give the timer back."""
        if self._descriptor >= 0:
            self._ready.stop()
            self._ready.close()
            os.close(self._descriptor)
            self._descriptor = -1
