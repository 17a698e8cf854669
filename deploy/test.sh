#!/usr/bin/env bash
# Sets up, builds and runs all tests.
#
#   deploy/test.sh [--no-apt] [--long] [--only NAME]
#
#   --no-apt   the Debian packages are there already
#   --long     the long runs as well; those that passed on this commit before
#              are not run again (results: build/long-results.tsv)
#   --only     one stage: release, asan, tsan, fuzz or format
#
# The last line is "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/.."

setup_options=() long=0 only=""
while [ $# -gt 0 ]; do
  case "$1" in
    --no-apt) setup_options+=(--no-apt) ;;
    --long) long=1 ;;
    --only) only=${2:?--only needs a stage}; shift ;;
    -h | --help) sed -n '2,12p' "$0" | cut -c3-; exit 0 ;;
    *) echo "test: unknown option $1 (see --help)" >&2; exit 78 ;;
  esac
  shift
done

# What was compiled in another checkout counts as well.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1

passed=0 failed=0 skipped=0
began=$(date +%s)
say() { echo "== [$((($(date +%s) - began) / 60)) min] $*"; }
wanted() { [ -z "$only" ] || [ "$only" = "$1" ]; }

# A step that is one test by itself: fails or passes as a whole.
step() {
  local name=$1
  shift
  say "$name"
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "FAILED: $name"
  fi
}

# run_ctest PRESET [CTEST OPTION ...]: adds its counts to the totals. A test that
# was skipped did not pass.
run_ctest() {
  local preset=$1 log=build/$1/ctest.log total bad not_run
  shift
  say "tests, $preset"
  (cd "build/$preset" && ctest --output-on-failure --no-tests=error "$@") \
    2>&1 | tee "$log"
  total=$(sed -n 's/.*tests failed out of \([0-9]*\)$/\1/p' "$log")
  bad=$(sed -n 's/.* \([0-9]*\) tests failed out of [0-9]*$/\1/p' "$log")
  if [ -z "$total" ]; then
    failed=$((failed + 1))
    return
  fi
  not_run=$(grep -cP '^\s+\d+ - .* \(Skipped\)$' "$log")
  passed=$((passed + total - bad - not_run))
  failed=$((failed + bad))
  skipped=$((skipped + not_run))
}

build() {
  local preset=$1
  # (The quick start leaves the tests out of this folder.)
  cmake --preset "$preset" -DDESCANT_TESTS=ON \
    >"build/$preset.configure.log" 2>&1 ||
    { cat "build/$preset.configure.log"; return 1; }
  cmake --build --preset "$preset"
}

check_format() {
  command -v clang-format-14 >/dev/null || return 1
  git ls-files -- '*.h' '*.cc' '*.cu' |
    xargs clang-format-14 --dry-run --Werror
}

# long_run NAME COMMAND ...: once per commit.
long_run() {
  local name=$1 results=build/long-results.tsv commit
  shift
  commit=$(git rev-parse HEAD)
  if grep -qsP "^$commit\t$name\tpassed" "$results"; then
    say "long: $name passed on this commit before"
    passed=$((passed + 1))
    return
  fi
  say "long: $name"
  if "$@"; then
    printf '%s\t%s\tpassed\n' "$commit" "$name" >>"$results"
    passed=$((passed + 1))
  else
    printf '%s\t%s\tfailed\n' "$commit" "$name" >>"$results"
    failed=$((failed + 1))
  fi
}

# Formats that clients or a damaged disk hand us: 30 seconds of libFuzzer each
# (with --long 10,000,000 executions, in parts of a million).
fuzz_targets=(safetensors_fuzz adapter_config_fuzz gguf_fuzz gguf_lora_fuzz
  journal_fuzz)
# Bytes of an input, at most: room for the seeds; longer ones only take longer.
declare -A fuzz_bytes=([safetensors_fuzz]=1024 [adapter_config_fuzz]=1024
  [gguf_fuzz]=2048 [gguf_lora_fuzz]=4096 [journal_fuzz]=1024)

build_fuzz() {
  cmake --preset fuzz >build/fuzz.configure.log 2>&1 ||
    { cat build/fuzz.configure.log; return 1; }
  cmake --build --preset fuzz --target "${fuzz_targets[@]/%/_libfuzzer}"
}

# fuzz TARGET OPTION ...: fails on a finding, whose input is then in
# build/fuzz/findings/. New inputs are kept for the next run.
fuzz() {
  local target=$1 log
  shift
  log=build/fuzz/$target.log
  mkdir -p build/fuzz/findings "build/fuzz/corpus/$target"
  # (Short stacks, a small quarantine: the sanitizer's default costs more than
  # the targets.)
  if ! env ASAN_OPTIONS=malloc_context_size=4:quarantine_size_mb=16 \
    "build/fuzz/tests/${target}_libfuzzer" -rss_limit_mb=2048 -timeout=20 \
    -max_len="${fuzz_bytes[$target]}" -entropic=0 -print_final_stats=1 \
    -artifact_prefix="build/fuzz/findings/$target-" "$@" "build/fuzz/corpus/$target" \
    "tests/fuzz/corpus/${target%_fuzz}" >"$log" 2>&1; then
    tail -n 60 "$log"
    return 1
  fi
  sed -n "s/^stat::number_of_executed_units: */$target: executions /p" "$log"
}

# Two at a time.
fuzz_shortly() {
  local target i
  local -a ids=()
  say "fuzzing, 30 s each"
  for ((i = 0; i < ${#fuzz_targets[@]}; i += 2)); do
    ids=()
    for target in "${fuzz_targets[@]:i:2}"; do
      fuzz "$target" -max_total_time=30 &
      ids+=("$target:$!")
    done
    for target in "${ids[@]}"; do
      if wait "${target#*:}"; then
        passed=$((passed + 1))
      else
        failed=$((failed + 1))
        echo "FAILED: ${target%:*}"
      fi
    done
  done
}

fuzz_long() {
  local target part
  for part in {1..10}; do
    for target in "${fuzz_targets[@]}"; do
      long_run "$target-million-$part" \
        fuzz "$target" -runs=1000000 -seed="$part"
    done
  done
}

long_runs() {
  local bin=build/release/tests workload part
  export DESCANT_SOURCE_DIR=$PWD DESCANT_DEPS_DIR=$PWD/.deps
  # 1,000,000 seeds.
  for part in {0..9}; do
    long_run "scheduler-simulation-1m-$part" env \
      DESCANT_SIM_FIRST=$((part * 100000 + 1)) DESCANT_SIM_SEEDS=100000 \
      "$bin/scheduler_sim_test"
  done
  long_run determinism-50k \
    env DESCANT_DETERMINISM_REQUESTS=50000 "$bin/engine_determinism_test"
  long_run kill-1000 env DESCANT_BIN_DIR=$PWD/build/release/bin \
    DESCANT_KILL_CYCLES=1000 "$bin/e2e_durability_test"
  long_run churn-10k env DESCANT_BIN_DIR=$PWD/build/release/bin \
    DESCANT_CHURN_CYCLES=10000 "$bin/e2e_churn_test"
  long_run crash-states-10k \
    env DESCANT_CRASH_OPERATIONS=10000 "$bin/store_crash_test"
  long_run disconnects-10k env DESCANT_BIN_DIR=$PWD/build/release/bin \
    DESCANT_DISCONNECTS=10000 "$bin/e2e_disconnect_test"
  long_run hostile-http2 env DESCANT_BIN_DIR=$PWD/build/release/bin \
    DESCANT_HOSTILE_SECONDS=30 DESCANT_HOSTILE_MANY=1 "$bin/e2e_hostile_http2_test"
  long_run soak-90min env DESCANT_BIN_DIR=$PWD/build/release/bin \
    DESCANT_SOAK_SECONDS=5400 "$bin/e2e_soak_test"
  long_run bench-lifecycle env DESCANT_BIN_DIR=$PWD/build/release/bin \
    build/release/bin/lifecycle_bench
  long_run isolation-300 env DESCANT_BIN_DIR=$PWD/build/release/bin \
    DESCANT_ISOLATION_REQUESTS=300 "$bin/e2e_isolation_test"
  long_run cuda-batches-1000 env DESCANT_CUDA_SEEDS=1000 "$bin/cuda_runner_test"
  long_run cuda-golden env DESCANT_CUDA_GOLDEN=all "$bin/cuda_runner_golden_test"
  long_run cuda-merges env DESCANT_CUDA_GOLDEN=all "$bin/cuda_runner_merge_test"
  # Each barrier, mask and bound of the CUDA kernels, taken away.
  long_run cuda-mutants tests/gpu/mutate.py
  # Every model that is exported, beside Transformers + PEFT.
  long_run export-all tests/golden/check_export.sh .deps build/release/bin all
  long_run hot-merge build/release/bin/merge_bench \
    .deps/models/SmolLM2-135M-Instruct.Q4_1.gguf
  long_run bench-tenants env DESCANT_BIN_DIR=$PWD/build/release/bin \
    build/release/bin/tenants_bench
  for workload in W-single W-eight W-base W-one W-mixed W-wide; do
    long_run "bench-$workload" build/release/bin/descant bench \
      --workload "$workload" --pairs 3 \
      --serve .deps/models/SmolLM2-135M-Instruct.Q4_1.gguf
  done
  long_run bench-bars tests/bench/bars.sh build/release/bin \
    .deps/models/SmolLM2-135M-Instruct.Q4_1.gguf
  # 1,000 lines of a file are no slower than the same load sent by the bench.
  long_run bench-W-file tests/bench/run_bench.sh build/release/bin/descant \
    .deps/models/SmolLM2-135M-Instruct.Q4_1.gguf
  unset DESCANT_SOURCE_DIR DESCANT_DEPS_DIR
}

mkdir -p build
say "set-up"
if ! deploy/setup.sh "${setup_options[@]+"${setup_options[@]}"}"; then
  echo "0 passed, 1 failed"
  exit 1
fi

if wanted format; then step "formatting" check_format; fi
if wanted release; then
  step "build, release" build release
  run_ctest release
  if [ "$long" -eq 1 ]; then long_runs; fi
fi
for sanitizer in asan tsan; do
  if wanted $sanitizer; then
    step "build, $sanitizer" build $sanitizer
    run_ctest $sanitizer
  fi
done
if wanted fuzz; then
  step "build, fuzz" build_fuzz
  fuzz_shortly
  if [ "$long" -eq 1 ]; then fuzz_long; fi
fi

# What the tests of an instruction set were skipped for.
not_run() {
  local name=$1 flag
  shift
  for flag in "$@"; do
    if ! grep -qw "$flag" /proc/cpuinfo; then
      say "not run on this machine: $name (no $flag)"
      return
    fi
  done
}
not_run avx2 avx2 fma
not_run avx512 avx512f avx512bw avx512dq avx512vl avx512_bf16 avx512_vnni
not_run amx amx_tile amx_bf16 amx_int8
grep -qw amx_tile /proc/cpuinfo ||
  say "amx: its kernels were tested over an emulation of the instructions"
[ -e /dev/nvidia0 ] || say "not run on this machine: cuda (no GPU)"

say "done; $skipped not run on this machine"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
