#!/usr/bin/env bash
# Makes .deps/peers/openvino (OpenVINO GenAI) and .deps/peers/openvino-export
# (optimum-intel, which wants an older transformers). Idempotent. CPython 3.11.
set -euo pipefail
cd "$(dirname "$0")/../../.."

requirements=tests/bench/peers/requirements
peer=.deps/peers/openvino
if [ ! -e "$peer/.complete-1" ]; then
  python3 -m venv "$peer"
  "$peer/bin/pip" install --quiet --no-deps -r $requirements/openvino.txt
  touch "$peer/.complete-1"
fi
export=.deps/peers/openvino-export
if [ ! -e "$export/.complete-1" ]; then
  python3 -m venv "$export"
  # Without CUDA; the wheel's CPU library still wants three of its libraries.
  "$export/bin/pip" install --quiet --no-deps --find-links .deps/downloads \
    torch==2.11.0 nvidia-cusparselt-cu13==0.8.0 nvidia-nvshmem-cu13==3.4.5 \
    nvidia-cufile==1.15.1.6
  "$export/bin/pip" install --quiet --no-deps \
    -r $requirements/openvino_export.txt
  touch "$export/.complete-1"
fi
echo "OpenVINO GenAI: $peer is ready"
