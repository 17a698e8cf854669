#!/usr/bin/env bash
# Descant beside OpenVINO GenAI, llama.cpp, vLLM and Transformers + PEFT in one
# interleaved run on this machine. See README.md here; options: --help.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec python3 "$here/run.py" "$@"
