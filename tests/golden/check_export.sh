#!/usr/bin/env bash
# check_export.py in the oracle's environment, on some models of each kind.
#
#   tests/golden/check_export.sh DEPS BIN [MODEL ...]   "all": every model
#
# Exits with 77 (skipped) where that environment was not made.
set -euo pipefail
deps=$1 bin=$2
shift 2
python=$deps/oracle-venv/bin/python
if [ ! -x "$python" ]; then
  echo "check_export: no $python (tests/golden/setup_oracle.sh)"
  exit 77
fi
if [ "${1:-}" = all ]; then
  set --
elif [ $# -eq 0 ]; then
  set -- hf:tiny-llama hf:tiny-llama-untied-sharded hf:tiny-phi3 hf:tiny-gpt2 \
    hf:tiny-gemma2 hf:tiny-qwen3 gguf:llama-bias gguf:gemma3 gguf:gpt2 \
    demo:sentiment
fi
export TRANSFORMERS_VERBOSITY=error HF_HUB_OFFLINE=1 TQDM_DISABLE=1
exec "$python" "$(dirname "$0")/check_export.py" "$bin/descant-server" \
  "$bin/descant" "$@"
