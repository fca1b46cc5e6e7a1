# emostream: the worker and the producer in one image.
#
#   docker build -t emostream:cpu .
#   docker build -t emostream:gpu --build-arg FLAVOUR=gpu .

ARG PYTHON_IMAGE=python:3.11.15-slim-bookworm

FROM ${PYTHON_IMAGE} AS dependencies
ARG FLAVOUR=cpu
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH
WORKDIR /build
COPY pyproject.toml LICENSE ./
# pyproject.toml names no packages, so this installs dependencies alone. It does name a README.md:
# an empty one keeps this layer when the real one changes.
RUN --mount=type=cache,target=/root/.cache/pip \
    touch README.md \
    && case "$FLAVOUR" in \
        cpu) pip install --extra-index-url "$TORCH_INDEX_URL" . ;; \
        gpu) pip install ".[gpu]" ;; \
        *) echo "FLAVOUR=$FLAVOUR: must be cpu or gpu" >&2; exit 1 ;; \
    esac

FROM ${PYTHON_IMAGE}
# gcc: on a GPU, Triton builds what calls the kernels when a worker first starts.
# A named volume takes its owner from the directory it covers, so /models is made here.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ffmpeg gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 emo \
    && useradd --uid 10001 --gid emo --no-create-home --home-dir /tmp emo \
    && install --directory --owner=emo --group=emo /models
COPY --from=dependencies /venv /venv
# HOME and the caches are writable places even where the root file system is read-only. What is
# compiled for a GPU is kept with the models: nothing can be loaded from a tmpfs of Docker's.
ENV PATH=/venv/bin:$PATH \
    HOME=/tmp \
    MODELSCOPE_CACHE=/models \
    TORCHINDUCTOR_CACHE_DIR=/models/.inductor \
    TRITON_CACHE_DIR=/models/.triton \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
COPY LICENSE ./
COPY storage ./storage
COPY producer ./producer
COPY worker ./worker
# Decode processes are spawned, and would compile every module again.
RUN python -m compileall -q .

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="emostream" \
    org.opencontainers.image.description="emotion2vec+ large as a streaming worker over Redis streams" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"

USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m"]
CMD ["worker", "run"]
