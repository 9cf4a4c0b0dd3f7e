# The load generator and the co-tenant: Locust, our users, stress.py. From the repository's root:
#   buildah build -f deploy/images/load.Dockerfile -t gpupilot-load .
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
COPY pyproject.toml requirements.lock README.md LICENSE /src/
COPY operator /src/operator
COPY agent /src/agent
COPY envs /src/envs
RUN python3 -m venv /opt/gpupilot \
    && /opt/gpupilot/bin/pip install --no-cache-dir -c /src/requirements.lock "/src[loadtest]"

FROM ${BASE}
COPY --from=build /opt/gpupilot /opt/gpupilot
COPY loadtests /app/loadtests
COPY examples /app/examples
WORKDIR /app
# compiled code is cached where a read-only container may write
ENV PATH=/opt/gpupilot/bin:/usr/local/bin:/usr/bin:/bin \
    NUMBA_CACHE_DIR=/tmp/numba OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1 HOME=/tmp
USER 65532:65532
CMD ["locust", "-f", "loadtests/open_loop.py", "--help"]
