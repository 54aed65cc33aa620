# The service on a CPU. With --build-arg TORCH_INDEX= (empty) it gets PyTorch's default build, which runs on NVIDIA GPUs too.
FROM python:3.11-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

WORKDIR /srv/gatescope
RUN useradd --system --no-create-home gatescope

COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY app ./app
RUN pip install --no-cache-dir --constraint constraints.txt ${TORCH_INDEX:+--extra-index-url ${TORCH_INDEX}} torch==2.13.0 \
 && pip install --no-cache-dir --constraint constraints.txt '.[cli]'
COPY models ./models

ENV GATESCOPE_HOST=0.0.0.0 GATESCOPE_PORT=8000 GATESCOPE_MODELS_DIR=/srv/gatescope/models GATESCOPE_LOG_FORMAT=json
EXPOSE 8000
USER gatescope
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD ["python", "-c", "import os, httpx; httpx.get(f'http://127.0.0.1:{os.environ[\"GATESCOPE_PORT\"]}/health/ready', trust_env=False).raise_for_status()"]
CMD ["gatescope", "serve"]
