#!/usr/bin/env bash
# Makes .deps/peers/models: the base model and the adapters in each peer's
# format. Run the other setup_*.sh first. Idempotent; minutes.
#
#   setup_models.sh [SEED]    seed of the adapters
set -euo pipefail
cd "$(dirname "$0")/../../.."

here=tests/bench/peers
peers=.deps/peers
models=$peers/models
seed=${1:-20261124}
last_adapter=$models/adapters/wide/31/adapter_config.json
if [ ! -e "$last_adapter" ]; then
  echo "models: base, adapters"
  $peers/hf/bin/python $here/make_models.py \
    .deps/models/SmolLM2-135M-Instruct.Q4_1.gguf $models "$seed"
fi
echo "models: llama.cpp"
$peers/hf/bin/python $here/convert_llamacpp.py $peers/llamacpp $models
echo "models: OpenVINO"
$peers/openvino-export/bin/python $here/convert_openvino.py $models/hf \
  $models/openvino
# probes BASE NAME
probes() {
  if [ ! -e "$models/probes-$2.json" ]; then
    echo "models: probes of $2"
    $peers/hf/bin/python $here/make_probes.py "$1" $models/adapters \
      "$models/probes-$2.json" "$seed"
  fi
}
probes $models/hf bf16
probes $models/llamacpp/Q4_0.gguf q4_0
echo "models: $models is ready"
