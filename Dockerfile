# One image for the code server, the web server, the daemon, every run and every step (docs/scaling.md, On Kubernetes).
#
#   docker build -t itool-pipeline:0.1.0 .                              PyTorch for processors alone
#   docker build -t itool-pipeline:0.1.0 --build-arg TORCH=cuda .       as the Python package index has it, with CUDA
#   docker build -t itool-pipeline:0.1.0 --build-arg TORCH=cu128 .      that of one of PyTorch's own indexes
#
# It has no entry point: Dagster's launcher gives only the arguments of what runs and steps execute.
FROM python:3.11-slim

ARG TORCH=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
WORKDIR /itool

# What the pipeline needs comes without its source, so that a change of the source leaves these layers alone.
COPY constraints.txt pyproject.toml ./
RUN case "$TORCH" in cuda) ;; *) pip install --no-deps --constraint constraints.txt \
    --index-url "https://download.pytorch.org/whl/$TORCH" torch ;; esac
RUN touch README.md && pip install --constraint constraints.txt --only-binary :all: '.[k8s]'

COPY LICENSE README.md ./
COPY itool_pipeline itool_pipeline
RUN pip install --no-deps --editable .

RUN useradd --uid 1000 --create-home itool && mkdir storage home && chown itool:itool storage home
USER 1000:1000
ENV DAGSTER_HOME=/itool/home ITOOL_STORAGE=/itool/storage
EXPOSE 3000 4000
CMD ["dagster", "code-server", "start", "-h", "0.0.0.0", "-p", "4000", "-m", "itool_pipeline.definitions"]
