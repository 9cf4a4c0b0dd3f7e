# The operator: no PyTorch, no shell, no package manager. From the repository's root:
#   buildah build -f deploy/images/operator.Dockerfile -t gpupilot-operator:0.1.0 .
ARG BASE=docker.io/library/python:3.11-slim-bookworm
ARG LIBRARIES=libraries

# what the operator stands on: changes with the lock, not with our sources
FROM ${BASE} AS libraries
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends binutils \
    && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml requirements.lock /src/
COPY deploy/images/operator/needs.py deploy/images/operator/slim.py /src/image/
RUN python3 -m venv /opt/tools && python3 -m venv --copies --without-pip /opt/gpupilot \
    && python3 /src/image/needs.py /src/pyproject.toml operator > /src/needs.txt \
    && /opt/tools/bin/pip install --no-cache-dir -c /src/requirements.lock hatchling \
    && /opt/tools/bin/pip --python /opt/gpupilot/bin/python \
        install --no-cache-dir --no-compile -c /src/requirements.lock -r /src/needs.txt \
    && python3 /src/image/slim.py /opt/gpupilot

FROM ${LIBRARIES} AS build
COPY pyproject.toml README.md LICENSE /src/
COPY operator /src/operator
COPY agent /src/agent
COPY envs /src/envs
RUN /opt/tools/bin/pip wheel --no-deps --no-build-isolation --no-cache-dir -w /wheels /src \
    && /opt/tools/bin/pip --python /opt/gpupilot/bin/python install --no-deps --no-compile /wheels/*.whl
COPY deploy/images/operator /opt/gpupilot/image
# kernels for a processor of 2013 or later, not for the one that builds; times to the second, as images keep them
ARG KERNEL_CPU=haswell
ENV NUMBA_CPU_NAME=${KERNEL_CPU} NUMBA_CPU_FEATURES="" NUMBA_CACHE_DIR=/opt/gpupilot/image/kernels OMP_NUM_THREADS=1
RUN find /opt/gpupilot -name '*.py' -exec touch -d @1700000000 {} + \
    && PYTHONDONTWRITEBYTECODE=1 /opt/gpupilot/bin/python /opt/gpupilot/image/warm.py
RUN python3 /opt/gpupilot/image/whole.py /opt/gpupilot /rootfs

FROM scratch
COPY --from=build /rootfs /
LABEL org.opencontainers.image.title="gpupilot-operator" \
    org.opencontainers.image.description="SLO autoscaler for GPU inference on Kubernetes" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="0.1.0"
ARG KERNEL_CPU=haswell
ENV PATH=/opt/gpupilot/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp LANG=C.UTF-8 \
    NUMBA_CPU_NAME=${KERNEL_CPU} NUMBA_CPU_FEATURES="" NUMBA_CACHE_DIR=/tmp/numba OMP_NUM_THREADS=1
EXPOSE 8080
USER 65532:65532
ENTRYPOINT ["/opt/gpupilot/bin/python", "/opt/gpupilot/image/start.py"]
