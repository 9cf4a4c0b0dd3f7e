"""Runs inside Triton's Python backend: an ONNX file on the CPU, one run per batch.

Copied into the model repository as ``model.py``; may import only what the stack's own
environment holds. Every instance is a process of its own.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance of the model, as Triton's Python backend wants it."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load ``model.onnx`` and run every batch size once: a first run takes up to twice as long.

        Args:
            args: From Triton; the configuration as JSON, the folder and the version.
        """
        config = json.loads(args["model_config"])
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        options = onnxruntime.SessionOptions()
        threads = config["parameters"]["intra_op_threads"]["string_value"]
        options.intra_op_num_threads = int(threads)
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        self.input = self.session.get_inputs()[0].name
        self.names = (config["input"][0]["name"], config["output"][0]["name"])
        shape = [int(size) for size in config["input"][0]["dims"]]
        for batch in range(1, int(config["max_batch_size"]) + 1):
            self.session.run(None, {self.input: np.zeros([batch, *shape], dtype=np.float32)})

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests of one batch, in their order."""
        given = [pb_utils.get_input_tensor_by_name(r, self.names[0]).as_numpy() for r in requests]
        batch = given[0] if len(given) == 1 else np.concatenate(given)
        (answers,) = self.session.run(None, {self.input: batch})
        ends = np.cumsum([len(images) for images in given])[:-1]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(self.names[1], part)])
            for part in np.split(answers, ends)
        ]
