# Triton with MobileNetV4 on the CPU, as `gpupilot stack --flavour cpu` runs it. `make model` first, then
#   buildah build -f deploy/images/triton-cpu.Dockerfile -t gpupilot-triton-cpu .
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
# what the stack installs (agent/gpupilot_agent/stack/tools.py): under numpy 2 this stub reads nothing
RUN python3 -m venv /opt/serving \
    && /opt/serving/bin/pip install --no-cache-dir --no-deps "nvidia-pytriton==0.7.0" \
    && /opt/serving/bin/pip install --no-cache-dir "numpy==1.26.4" "onnxruntime>=1.20,<2"
WORKDIR /opt/serving/lib/python3.11/site-packages
RUN mkdir /opt/backends \
    && cp -r pytriton/tritonserver/backends/python /opt/backends/ \
    && cp pytriton/tritonserver/python_backend_stubs/3.11/triton_python_backend_stub /opt/backends/python/ \
    && rm -rf pytriton/tritonserver/python_backend_stubs pip

FROM ${BASE}
COPY --from=build /opt/serving /opt/serving
COPY --from=build /opt/backends /opt/backends
ARG MODELS=deploy/triton/cpu
COPY ${MODELS} /models
# the stub takes its Python from PATH; without its libraries it hangs while loading
ENV PATH=/opt/serving/bin:/usr/local/bin:/usr/bin:/bin \
    LD_LIBRARY_PATH=/opt/serving/lib/python3.11/site-packages/nvidia_pytriton.libs \
    ORT_DISABLE_TELEMETRY=1 OMP_NUM_THREADS=1 HOME=/tmp
EXPOSE 8000 8001 8002
USER 65532:65532
ENTRYPOINT ["/opt/serving/lib/python3.11/site-packages/pytriton/tritonserver/bin/tritonserver", \
    "--model-repository=/models", "--backend-directory=/opt/backends", \
    "--allow-gpu-metrics=false", "--metrics-interval-ms=1000", \
    "--metrics-config=summary_latencies=true", "--disable-auto-complete-config"]
