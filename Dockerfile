# docker build --target train -t fusmae-train .    the whole pipeline
# docker run --rm --user "$(id -u):$(id -g)" --env HOME=/tmp --volume "$PWD:/work" fusmae-train dvc repro
FROM python:3.11-slim-bookworm AS train
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make libexpat1 \
    && rm -rf /var/lib/apt/lists/*
# The lock before the source: a change of code does not install everything again.
WORKDIR /opt/fusmae
COPY requirements.lock ./
RUN pip install --no-cache-dir --require-hashes --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY fusmae fusmae
COPY flows flows
RUN pip install --no-cache-dir --no-deps --no-build-isolation .
# The mounted checkout may belong to another user; without this, git would tell no commit.
RUN git config --system --add safe.directory /work
RUN useradd --create-home --uid 1000 fusmae
USER fusmae
WORKDIR /work
CMD ["dvc", "repro"]

# docker build --target serve -t fusmae-serve .    the service, without torch: docs/serving.md
# docker run --rm -p 127.0.0.1:8080:8080 --env MLFLOW_TRACKING_URI=http://mlflow:5000 fusmae-serve
FROM python:3.11-slim-bookworm AS serve
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libexpat1 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/fusmae
COPY requirements-serve.lock ./
RUN pip install --no-cache-dir --require-hashes --requirement requirements-serve.lock
COPY fusmae fusmae
# No git in here: MLflow need not look for it.
ENV PYTHONPATH=/opt/fusmae GIT_PYTHON_REFRESH=quiet
RUN useradd --create-home --uid 1000 fusmae
USER fusmae
# Downloaded versions are kept here.
WORKDIR /home/fusmae
EXPOSE 8080
HEALTHCHECK CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health', timeout=3)"]
ENTRYPOINT ["python", "-m", "fusmae", "serve", "--host", "0.0.0.0"]
CMD ["--model", "fusmae@champion"]
