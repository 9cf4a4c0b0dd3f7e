"""Background processes end wholly: what they held is free once they are said to have ended."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

from gpupilot_agent.stack import processes
from gpupilot_agent.stack.plan import LOOPBACK, free_ports

HEADLESS = """
import ctypes, platform, socket, sys, threading, time
held = socket.create_server(("127.0.0.1", int(sys.argv[1])))
threading.Thread(target=time.sleep, args=(600.0,)).start()
sys.stdout.write("listening\\n")
sys.stdout.flush()
exit = {"x86_64": 60, "aarch64": 93}[platform.machine()]
ctypes.CDLL(None).syscall(exit, 0)  # this thread alone
"""


def test_one_whose_first_thread_has_ended_is_ended_with_all_it_holds(tmp_path: Path) -> None:
    """It is a zombie for ps, and yet its other threads keep the port."""
    (port,) = free_ports(1)
    log = tmp_path / "log"
    process = processes.start("headless", [sys.executable, "-c", HEADLESS, str(port)], log)
    while process.is_alive() or "listening" not in log.read_text(encoding="utf-8"):
        time.sleep(0.01)
    processes.stop([process])
    with socket.create_server((LOOPBACK, port)):
        assert not process.is_alive()
