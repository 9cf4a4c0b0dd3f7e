# The load generator and the co-tenant: Locust, our users, stress.py. From the repository's root:
#   buildah build -f deploy/images/load.Dockerfile -t gpupilot-load:0.1.0 .
ARG BASE=docker.io/library/python:3.11-slim-bookworm
ARG LIBRARIES=libraries

# what it stands on: changes with the lock, not with our sources
FROM ${BASE} AS libraries
COPY pyproject.toml requirements.lock deploy/images/operator/needs.py /src/
RUN python3 -m venv /opt/gpupilot \
    && python3 /src/needs.py /src/pyproject.toml loadtest > /src/needs.txt \
    && /opt/gpupilot/bin/pip install --no-cache-dir -c /src/requirements.lock hatchling -r /src/needs.txt

FROM ${LIBRARIES}
COPY pyproject.toml README.md LICENSE /src/
COPY operator /src/operator
COPY agent /src/agent
COPY envs /src/envs
RUN /opt/gpupilot/bin/pip install --no-cache-dir --no-deps --no-build-isolation /src
COPY loadtests /app/loadtests
COPY examples /app/examples
WORKDIR /app
LABEL org.opencontainers.image.title="gpupilot-load" \
    org.opencontainers.image.description="Load and co-tenants for inference services" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="0.1.0"
# compiled code is cached where a read-only container may write
ENV PATH=/opt/gpupilot/bin:/usr/local/bin:/usr/bin:/bin \
    NUMBA_CACHE_DIR=/tmp/numba OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1 HOME=/tmp
USER 65532:65532
CMD ["locust", "-f", "loadtests/open_loop.py", "--help"]
