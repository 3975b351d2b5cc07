# Images for compose.yaml (docs/servers.md), and for work in a checkout:
#   docker build --target train -t fusmae-train .
#   docker run --rm --user "$(id -u):$(id -g)" --env HOME=/tmp --volume "$PWD:/work" fusmae-train dvc repro
# Bases can be given by digest: --build-arg PYTHON_IMAGE=python:3.11.15-slim-bookworm@sha256:…
ARG PYTHON_IMAGE=python:3.11.15-slim-bookworm
ARG OBJECTS_IMAGE=versity/versitygw:v1.8.0

# The whole pipeline, and Prefect's workers.
FROM ${PYTHON_IMAGE} AS train
# No pinned versions: Debian removes a version once its security fix is published, and the build would then fail.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make libexpat1 \
    && rm -rf /var/lib/apt/lists/*
# The lock is copied before the source, so that a change of code doesn't reinstall all packages.
WORKDIR /opt/fusmae
COPY requirements.lock ./
RUN pip install --no-cache-dir --require-hashes --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY fusmae fusmae
COPY flows flows
# The mounted checkout may belong to another user; git reads its commit only with safe.directory.
RUN pip install --no-cache-dir --no-deps --no-build-isolation . \
    && git config --system --add safe.directory /work \
    && useradd --create-home --uid 1000 fusmae \
    && install --directory --owner 1000 --group 1000 /work
COPY deploy deploy
# In the checkout, where the folder outlasts the container.
ENV DVC_SITE_CACHE_DIR=/work/.fusmae/dvc
USER 1000
WORKDIR /work
CMD ["dvc", "repro"]

# MLflow's and Prefect's servers, without torch.
FROM ${PYTHON_IMAGE} AS servers
WORKDIR /opt/fusmae
COPY deploy/requirements.lock deploy/requirements.lock
RUN pip install --no-cache-dir --require-hashes --requirement deploy/requirements.lock \
    && useradd --create-home --uid 1000 fusmae \
    && install --directory --owner 1000 --group 1000 /passing
COPY deploy deploy
USER 1000
WORKDIR /home/fusmae

# The object store: one file per object, in a folder that its user owns.
FROM ${OBJECTS_IMAGE} AS objects
USER 0
RUN mkdir -p /data && chown 1000:1000 /data
COPY deploy/with-secrets /opt/fusmae/deploy/with-secrets
USER 1000

# The service, without torch: docs/serving.md
#   docker build --target serve -t fusmae-serve .
#   docker run --rm -p 127.0.0.1:8080:8080 --env MLFLOW_TRACKING_URI=http://mlflow:5000 fusmae-serve
FROM ${PYTHON_IMAGE} AS serve
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libexpat1 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/fusmae
COPY requirements-serve.lock ./
RUN pip install --no-cache-dir --require-hashes --requirement requirements-serve.lock \
    && useradd --create-home --uid 1000 fusmae
COPY fusmae fusmae
COPY deploy/with-secrets deploy/healthy.py deploy/
# The image has no git: MLflow doesn't look for it.
ENV PYTHONPATH=/opt/fusmae GIT_PYTHON_REFRESH=quiet
USER 1000
# Downloaded versions are kept here.
WORKDIR /home/fusmae
EXPOSE 8080
HEALTHCHECK CMD ["python", "/opt/fusmae/deploy/healthy.py", "http://127.0.0.1:8080/health"]
ENTRYPOINT ["python", "-m", "fusmae", "serve", "--host", "0.0.0.0"]
CMD ["--model", "fusmae@champion"]
