#!/usr/bin/env bash
# Runs the commands of RECIPE.md, all ```sh blocks in order, in one shell.
#
#   deploy/demo/try_recipe.sh [BIN_DIR]
#
#   BIN_DIR   where the binaries are (default build/release/bin)
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=${1:-build/release/bin}
rm -rf build/recipe
mkdir -p build/recipe
{
  echo 'set -euxo pipefail'
  # A server that a failure leaves behind.
  echo 'trap "kill %1 2>/dev/null || true" EXIT'
  awk '/^```sh$/ { on = 1; next } /^```$/ { on = 0 } on' \
    deploy/demo/RECIPE.md | sed "s#build/release/bin#$bin#"
} >build/recipe/commands.sh
bash build/recipe/commands.sh
echo "try_recipe: done"
