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
