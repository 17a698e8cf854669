// The oracle's stored answers (tests/golden/README.md) as C++ values.
#ifndef DESCANT_TESTS_RUNTIME_MODEL_GOLDEN_CASES_H_
#define DESCANT_TESTS_RUNTIME_MODEL_GOLDEN_CASES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "adapters/adapter.h"
#include "adapters/base_shape.h"
#include "runtime/core/batch.h"

namespace descant {

struct GoldenAdapter {
  std::string name;  // "" is the base
  std::string kind;  // "base", "random" or "demo"
  uint64_t seed = 0;
  std::string dtype;
  double std_a = 0;  // standard deviation of the A factors
  double std_b = 0;
  std::string config_json;
  std::vector<std::pair<std::string, std::vector<uint64_t>>> tensors;
};

struct GoldenCase {
  std::string adapter;
  std::vector<int32_t> prompt;
  std::vector<int32_t> tokens;                 // greedy
  std::vector<std::vector<TokenLogprob>> top;  // per token
  std::vector<float> gaps;                     // between the two likeliest
};

struct GoldenFile {
  std::string model;
  std::vector<GoldenAdapter> adapters;
  std::vector<GoldenCase> cases;
};

// The checkout and the downloads: DESCANT_SOURCE_DIR, DESCANT_DEPS_DIR.
std::string SourcePath(const std::string& relative);
std::string DepsPath(const std::string& relative);
bool FileExists(const std::string& path);
// The whole file; aborts the test program when it can't be read.
std::string ReadFileOrDie(const std::string& path);

// The tiny models' files, every family that is served.
inline constexpr const char* kGoldenModels[] = {
    "tiny_llama",
    "tiny_llama_rope_linear",
    "tiny_llama_rope_llama3",
    "tiny_llama_untied_sharded",
    "tiny_llama_bias",
    "tiny_mistral",
    "tiny_qwen2",
    "tiny_qwen3",
    "tiny_gemma2",
    "tiny_gemma3",
    "tiny_phi3",
    "tiny_phi3_longrope",
    "tiny_gpt2",
};

// `name` as in tests/golden/data/<name>.json.
GoldenFile ReadGolden(const std::string& name);

// Random adapters are generated, demo adapters read from deploy/demo; null
// for the base.
absl::StatusOr<std::shared_ptr<const Adapter>> MakeGoldenAdapter(
    const GoldenAdapter& golden, const BaseShape& base);

// The largest difference between the oracle's log-probabilities of one token's
// five likeliest and `top`.
float LogprobError(const std::vector<TokenLogprob>& expected,
                   const std::vector<TokenLogprob>& top);

}  // namespace descant

#endif  // DESCANT_TESTS_RUNTIME_MODEL_GOLDEN_CASES_H_
