#!/usr/bin/env bash
# All that needs a GPU, in one command: the emulated tests on the real kernels,
# against the same goldens; replayed graphs; compute-sanitizer's four tools; the
# server's self-test; adapters that come and go under load; benches.
#
#   tests/gpu/run.sh [--only PART[,PART ...]] [BUILD]
#
# PART: tests, graphs, sanitizer, self-test, soak, bench. BUILD: a build folder,
# or a copy of one from a machine with nvcc; default build/release. Everything
# is logged into tests/gpu/results/.
#
# Each check ends with a line "ok: ...", "FAILED: ..." or "not run: ...", and
# the last line is "N ok, N failed, N not run". Exit codes: 0 nothing failed, 1
# something did, 2 there is no GPU, 78 wrong usage.
set -uo pipefail
root=$(realpath "$(dirname "$0")/../..")

only="" build=$root/build/release
while [ $# -gt 0 ]; do
  case "$1" in
    --only) only=${2:?--only needs a part}; shift ;;
    -h | --help) sed -n '2,14p' "$0" | cut -c3-; exit 0 ;;
    -*) echo "run.sh: unknown option $1 (see --help)" >&2; exit 78 ;;
    *) build=$(realpath -m "$1") ;;
  esac
  shift
done
for part in ${only//,/ }; do
  case "$part" in
    tests | graphs | sanitizer | self-test | soak | bench) ;;
    *) echo "run.sh: no part $part (see --help)" >&2; exit 78 ;;
  esac
done

cd "$root" || exit 78
results=tests/gpu/results
began=$(date -u +%Y%m%dT%H%M%SZ)
tests=$build/tests bin=$build/bin
export DESCANT_SOURCE_DIR=$PWD DESCANT_DEPS_DIR=$PWD/.deps DESCANT_BIN_DIR=$bin
# The build folder may come from elsewhere.
export LD_LIBRARY_PATH=$PWD/.deps/torch-2.11.0/torch/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
demo=.deps/models/SmolLM2-135M-Instruct.Q4_1.gguf
random_model=${DESCANT_RANDOM_MODEL:-${TMPDIR:-/tmp}/descant-random-8b}
kernel_tests=(cuda_activate_test cuda_layer_test cuda_logits_test cuda_lora_route_test
  cuda_lora_test cuda_paged_attention_test cuda_rope_test cuda_sampling_test
  cuda_sampling_random_test cuda_accept_drafts_test)
runner_tests=(cuda_adapter_pool_test cuda_step_sampling_test cuda_runner_test
  cuda_runner_merge_test cuda_runner_golden_test)

ok=0 failed=0 not_run=0
wanted() { [ -z "$only" ] || [[ ",$only," == *",$1,"* ]]; }
skip() {
  not_run=$((not_run + 1))
  echo "not run: $1: $2"
}

# check NAME COMMAND ...: what it prints, and its verdict. A device test that
# finds no GPU succeeds, and says so.
check() {
  local name=$1 start=$SECONDS output code
  shift
  echo "== $name: $*"
  output=$(mktemp)
  timeout 3600 "$@" 2>&1 | tee "$output"
  code=${PIPESTATUS[0]}
  if [ "$code" -eq 0 ] && grep -q "^not run: " "$output"; then
    skip "$name" "$(sed -n 's/^not run: //p' "$output" | head -n 1)"
  elif [ "$code" -eq 0 ]; then
    ok=$((ok + 1))
    echo "ok: $name ($((SECONDS - start)) s)"
  else
    failed=$((failed + 1))
    echo "FAILED: $name (exit code $code, $((SECONDS - start)) s)"
  fi
  rm -f "$output"
}

machine() {
  echo "$began, commit $commit, $build"
  uname -srm
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit \
    --format=csv 2>/dev/null || echo "no nvidia-smi"
  if command -v cuobjdump >/dev/null &&
    [ -e "$build/runtime/kernels/libdescant_cuda.a" ]; then
    echo "registers, stack and shared memory of each kernel:"
    cuobjdump --dump-resource-usage "$build/runtime/kernels/libdescant_cuda.a"
  fi
}

device_tests() {
  local test
  for test in "${kernel_tests[@]}"; do check "$test" "$tests/gpu_$test"; done
  for test in "${runner_tests[@]}"; do
    check "$test" env DESCANT_CUDA_SEEDS=1000 DESCANT_CUDA_GOLDEN=all \
      "$tests/gpu_$test"
  done
}

sanitizer() {
  local tool test
  local -a options
  for tool in memcheck racecheck initcheck synccheck; do
    if ! command -v compute-sanitizer >/dev/null; then
      skip "$tool" "no compute-sanitizer on the path"
      continue
    fi
    options=(--tool "$tool" --error-exitcode 9)
    # So that an access behind an array meets no other array.
    if [ "$tool" = memcheck ]; then options+=(--padding 64); fi
    for test in "${kernel_tests[@]}"; do
      check "$tool of $test" compute-sanitizer "${options[@]}" "$tests/gpu_$test"
    done
    check "$tool of the runner" env DESCANT_CUDA_SEEDS=5 \
      compute-sanitizer "${options[@]}" "$tests/gpu_cuda_runner_test"
  done
}

self_test() {
  local folder
  if ! "$bin/descant-server" --help 2>&1 | grep -q -- "--self-test"; then
    skip "self-test" "descant-server has no --self-test"
    return
  fi
  folder=$(mktemp -d)
  check "self-test" "$bin/descant-server" --self-test --device=cuda \
    --model="$demo" --adapter-dir="$folder"
  rm -rf "$folder"
}

# Products of other sizes add in another order: a few answers may turn off in a
# near tie, none may be another adapter's.
soak() {
  check "adapter churn" env DESCANT_SERVER_FLAGS=--device=cuda \
    DESCANT_CHURN_CYCLES=2000 DESCANT_CHURN_FLIPS=20 "$tests/e2e_churn_test"
}

# bench NAME MODEL FLAG ...: unchecked, as the check wants a batch to change no
# bit. What answers are is the tests' part; lengths and adapters are looked at.
bench() {
  local name=$1 model=$2
  shift 2
  check "bench, $name" "$bin/descant" bench --unchecked --pairs 7 \
    --workload W-base,W-mixed,W-wide,W-many,W-single,W-eight \
    --serve "$model" --server-flag=--device=cuda "$@" \
    --commit "$commit" --output "$results/$began-$name"
}

# The model is made once, of 16 GB, and stays.
bench_8b() {
  local folder memory
  folder=$(dirname "$random_model")
  memory=$(nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits 2>/dev/null |
    head -n 1)
  if [ "${memory:-0}" -lt 22000 ]; then
    skip "bench, random-8b" "less than 22 GB of GPU memory"
    return
  fi
  if [ ! -e "$random_model/complete" ]; then
    if [ "$(df --output=avail -k "$folder" | tail -n 1)" -lt 18000000 ]; then
      skip "bench, random-8b" "less than 18 GB free in $folder"
      return
    fi
    if ! python3 tests/gpu/make_random_model.py --size 8b \
      tests/golden/models/tiny-llama "$random_model"; then
      skip "bench, random-8b" "the model could not be made"
      return
    fi
    touch "$random_model/complete"
  fi
  bench random-8b "$random_model" --server-flag=--max-model-len=2048
}

run() {
  machine
  if wanted tests; then device_tests; fi
  if wanted graphs; then
    check "graph replay equality" "$tests/gpu_cuda_runner_test" \
      --gtest_filter='CudaRunnerTest.AGraphServes*'
  fi
  if wanted sanitizer; then sanitizer; fi
  if wanted self-test; then self_test; fi
  if wanted soak; then soak; fi
  if wanted bench; then
    bench demo "$demo"
    bench_8b
  fi
  echo "$ok ok, $failed failed, $not_run not run"
  [ "$failed" -eq 0 ]
}

commit=$(git describe --always --dirty --exclude '*' 2>/dev/null || echo unknown)
probe=$tests/gpu_cuda_layer_test
if [ ! -x "$probe" ]; then
  echo "not run: $build has no device tests (configure with DESCANT_CUDA=ON and build)"
  exit 2
fi
if no_gpu=$("$probe" --gtest_filter=-'*' | grep "^not run: "); then
  echo "$no_gpu"
  exit 2
fi
mkdir -p "$results"
run 2>&1 | tee "$results/$began.log"
exit "${PIPESTATUS[0]}"
