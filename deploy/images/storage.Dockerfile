# For tests: what KServe's storage initializer runs, under its name, and a bucket (moto) to copy from.
#   buildah build -f deploy/images/storage.Dockerfile -t kserve/storage-initializer:v0.20.0 .
# On a cluster of yours it is KServe's own image, which also opens Google's and Azure's clouds and Hugging Face.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
RUN python3 -m venv /opt/storage \
    && /opt/storage/bin/pip install --no-cache-dir --no-deps "kserve-storage==0.20.0" \
    && /opt/storage/bin/pip install --no-cache-dir "moto[s3]==5.2.5" "boto3>=1.40,<2" flask flask-cors

FROM ${BASE}
COPY --from=build /opt/storage /opt/storage
ENV PATH=/opt/storage/bin:/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1
USER 1000
# pairs of a URI and a folder, as KServe's has them
ENTRYPOINT ["python3", "-c", "import sys; from kserve_storage import Storage, configure_logging; configure_logging(); Storage.download_files(sys.argv[1::2], sys.argv[2::2])"]
