#!/usr/bin/env bash
# Takes the figures of the bars that need no other engine (README.md), prints
# which are met, and exits with 1 when one is not. For a quiet machine; 10 to 25
# minutes. (Not through SCHED_FIFO: spinning workers would starve the RPC
# threads and the client.)
#
#   bars.sh [--pairs N] [--smoke] [--weights TYPE] [--output FOLDER] BIN MODEL
#
# BIN has descant, descant-server and step_bench. --smoke: few repetitions,
# twice the slack, and three attempts.
set -euo pipefail
cd "$(dirname "$0")/../.."
pairs=21 smoke=0 weights=bf16 output=build/bars
while [ $# -gt 2 ]; do
  case "$1" in
    --pairs) pairs=$2; shift 2 ;;
    --smoke) smoke=1; shift ;;
    --weights) weights=$2; shift 2 ;;
    --output) output=$2; shift 2 ;;
    *) echo "bars: unknown option $1" >&2; exit 64 ;;
  esac
done
bin=$1 model=$2
mkdir -p "$output"
commit=$(git describe --always --dirty --exclude '*' 2>/dev/null || echo unknown)

# bench NAME WORKLOADS PAIRS [OPTION ...]
bench() {
  local name=$1 workloads=$2 pairs=$3
  shift 3
  "$bin/descant" bench --compare "$workloads" --pairs "$pairs" \
    --serve "$model" --server-flag="--weights=$weights" --commit "$commit" \
    --output "$output/$name" "$@"
}

# The bars are of machines with AVX-512 BF16 or AMX.
if [ $smoke -eq 1 ] && ! grep -qw avx512_bf16 /proc/cpuinfo; then
  echo "not run on this machine: bars (no avx512_bf16)"
  exit 77
fi

# bars SLACK REPORT ...
bars() {
  local slack=$1 files=()
  shift
  for file in "$@"; do files+=("$output/$file.json"); done
  python3 tests/bench/bars.py --slack "$slack" "${files[@]}" -- \
    "$output/step.json"
}

if [ $smoke -eq 1 ]; then
  # A neighbour on the machine can take a measurement away: it is repeated.
  for attempt in 1 2 3; do
    bench mixed W-base,W-mixed,W-wide 1
    "$bin/step_bench" --weights "$weights" --only base \
      --json "$output/step.json" "$model" 6
    if bars 2 mixed; then exit 0; fi
    echo "attempt $attempt missed a bar"
  done
  exit 1
fi
# A first start packs the weights, the others find them packed.
bench warm W-single 1 >"$output/warm.txt"
bench mixed W-base,W-mixed,W-wide 7
bench scale W-mixed,W-scale-1000 7
bench memory W-scale-10000 1
# Gaps between tokens are what this flag is for; without it a prompt of 128
# tokens is one chunk, as long as it takes.
bench open W-open 5 --server-flag=--target-itl-ms=40
# Within 3 % of 1: the interval counts.
bench unused W-unused "$pairs"
"$bin/step_bench" --weights "$weights" --json "$output/step.json" "$model"
bars 1 mixed scale memory open unused
