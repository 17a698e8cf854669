#!/usr/bin/env bash
# Makes .deps/peers/hf: Transformers + PEFT, the environment of the test oracle.
set -euo pipefail
cd "$(dirname "$0")/../../.."

tests/golden/setup_oracle.sh
mkdir -p .deps/peers
ln -sfn ../oracle-venv .deps/peers/hf
echo "Transformers + PEFT: .deps/peers/hf is ready"
