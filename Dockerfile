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
COPY deploy/*.lock ./
# Only files whose hashes deploy/lock has written down, and none that runs code when it is installed.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --require-hashes --no-deps --only-binary :all: -r requirements.lock
# torch-cpu.lock has a version alone until `deploy/lock cpu` adds the hashes; pip then asks for them.
RUN --mount=type=cache,target=/root/.cache/pip \
    case "$FLAVOUR" in \
        cpu) pip install --no-deps --only-binary :all: --index-url "$TORCH_INDEX_URL" \
            -r torch-cpu.lock ;; \
        gpu) pip install --require-hashes --no-deps --only-binary :all: -r torch-gpu.lock ;; \
        *) echo "FLAVOUR=$FLAVOUR: must be cpu or gpu" >&2; exit 1 ;; \
    esac

FROM ${PYTHON_IMAGE}
ARG FLAVOUR=cpu
# On a GPU, Triton builds what calls the kernels when a worker first starts: with a C compiler, which
# nothing else needs. A named volume takes its owner from the directory it covers, so each is made.
RUN case "$FLAVOUR" in gpu) compiler="gcc libc6-dev" ;; *) compiler= ;; esac \
    && apt-get update \
    && apt-get install --yes --no-install-recommends ffmpeg $compiler \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 emo \
    && useradd --uid 10001 --gid emo --no-create-home --home-dir /tmp emo \
    && install --directory --owner=emo --group=emo /models /compiled /scratch
COPY --from=dependencies /venv /venv
# HOME and the caches are writable places even where the root file system is read-only. What is
# compiled for a GPU has a place of its own: nothing can be loaded from a tmpfs of Docker's.
ENV PATH=/venv/bin:$PATH \
    HOME=/tmp \
    MODELSCOPE_CACHE=/models \
    TORCHINDUCTOR_CACHE_DIR=/compiled/inductor \
    TRITON_CACHE_DIR=/compiled/triton \
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
