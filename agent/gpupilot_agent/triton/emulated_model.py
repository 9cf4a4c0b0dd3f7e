"""Runs inside Triton's Python backend: sleeps as long as a GPU would compute.

Triton's queue, batcher, transport and metrics are the real ones; only the execution is an
interval of time, drawn as the simulator draws it: the curve at the batch's size, times lognormal
noise, times the contention of the instances that execute at its start. Copied into the
model repository as ``model.py``; may import only what the stack's own environment holds.
"""

from __future__ import annotations

import ctypes
import json
import math
import mmap
import os
import time
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

TENANTS_MAX = 16
PR_SET_TIMERSLACK = 29


class TritonPythonModel:
    """One instance of the model, as Triton's Python backend wants it."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the curve, the noise and the contention from the configuration's parameters.

        Args:
            args: From Triton; the configuration as JSON and the instance's name.
        """
        config = json.loads(args["model_config"])
        given = {key: value["string_value"] for key, value in config["parameters"].items()}
        self.times_s = [float(ms) / 1000.0 for ms in given["batch_latency_ms"].split(",")]
        self.sigma = math.sqrt(math.log1p(float(given["noise_cv"]) ** 2))
        self.contention = [float(slower) for slower in given["contention"].split(",")]
        self.slot = int(args["model_instance_name"].rpartition("_")[2]) % TENANTS_MAX
        self.random = np.random.default_rng([int(given["seed"]), self.slot])
        self.tenants = _shared(given["tenants_file"])
        self.names = (config["input"][0]["name"], config["output"][0]["name"])
        self.classes = int(config["output"][0]["dims"][0])
        # the kernel may be 50 us late by default, 0.5 % of a 10 ms batch
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Take the batch's time, then answer every request with zeros of the real shape."""
        began_s = time.perf_counter()
        self.tenants[self.slot] = 1
        given = [pb_utils.get_input_tensor_by_name(r, self.names[0]) for r in requests]
        sizes = [len(tensor.as_numpy()) for tensor in given]
        ends_s = began_s + self._takes_s(sum(sizes))
        answers = [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor(self.names[1], np.zeros((size, self.classes), dtype=np.float32))]
            )
            for size in sizes
        ]
        time.sleep(max(ends_s - time.perf_counter(), 0.0))
        self.tenants[self.slot] = 0
        return answers

    def _takes_s(self, size: int) -> float:
        noise = self.random.lognormal(-0.5 * self.sigma**2, self.sigma)
        tenants = sum(self.tenants[:])
        return float(self.times_s[size - 1] * noise * self.contention[tenants - 1])


def _shared(path: str) -> mmap.mmap:
    """Map the file in which the GPU's instances mark that they execute, one byte each."""
    # made where it is missing: instances start side by side, and a longer file stays as it is
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        os.posix_fallocate(file.fileno(), 0, TENANTS_MAX)
        return mmap.mmap(file.fileno(), TENANTS_MAX)
