# Triton on the CPU: the same server and command line as NVIDIA's image, without CUDA's gigabytes.
#   buildah build -f deploy/images/triton-cpu.Dockerfile -t gpupilot-triton-cpu .
# It holds no model: mount a repository (deploy/triton/cpu after `make model`) at /models.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
# what the stack installs (agent/gpupilot_agent/stack/tools.py): under numpy 2 this stub reads nothing
RUN python3 -m venv /opt/serving \
    && /opt/serving/bin/pip install --no-cache-dir --no-deps "nvidia-pytriton==0.7.0" \
    && /opt/serving/bin/pip install --no-cache-dir "numpy==1.26.4" "onnxruntime>=1.20,<2"
WORKDIR /opt/serving/lib/python3.11/site-packages
# where NVIDIA's image has them, so that no option names them
RUN mkdir -p /opt/tritonserver/bin /opt/tritonserver/backends \
    && ln -s "$PWD/pytriton/tritonserver/bin/tritonserver" /opt/tritonserver/bin/ \
    && mv pytriton/tritonserver/backends/python /opt/tritonserver/backends/ \
    && mv pytriton/tritonserver/python_backend_stubs/3.11/triton_python_backend_stub \
        /opt/tritonserver/backends/python/ \
    && rm -rf pytriton/tritonserver/python_backend_stubs pip setuptools

FROM ${BASE}
COPY --from=build /opt/serving /opt/serving
COPY --from=build /opt/tritonserver /opt/tritonserver
# the stub takes its Python from PATH; without its libraries it hangs while loading
ENV PATH=/opt/serving/bin:/opt/tritonserver/bin:/usr/local/bin:/usr/bin:/bin \
    LD_LIBRARY_PATH=/opt/serving/lib/python3.11/site-packages/nvidia_pytriton.libs \
    ORT_DISABLE_TELEMETRY=1 OMP_NUM_THREADS=1 HOME=/tmp
EXPOSE 8000 8001 8002
USER 65532:65532
CMD ["tritonserver", "--model-repository=/models", "--metrics-config=summary_latencies=true"]
