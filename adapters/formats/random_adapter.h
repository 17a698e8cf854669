// Seeded random adapters in PEFT's format: the same bits here and in the
// Python twin (tests/golden). Used by tests and benchmarks.
//
// Element i (row-major) of the tensor with full PEFT name t, adapter seed s:
//   x = splitmix64_mix((s ^ fnv1a64(t)) + (i + 1) * 0x9E3779B97F4A7C15)
//   k = sum of the four 16-bit fields of x, in 0..262140
//   value = double(k - 131070) * (std / 37837.22723720648)
// then rounded to float32 and to the tensor's dtype, nearest even.
#ifndef DESCANT_ADAPTERS_FORMATS_RANDOM_ADAPTER_H_
#define DESCANT_ADAPTERS_FORMATS_RANDOM_ADAPTER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "adapters/formats/dtype.h"

namespace descant {

struct RandomAdapterModule {
  std::string module_path;  // "model.layers.0.self_attn.q_proj"
  int32_t in = 0;
  int32_t out = 0;
  int32_t rank = 0;   // 0: the options' rank
  double alpha = -1;  // negative: the options' alpha
};

struct RandomAdapterOptions {
  int32_t rank = 8;
  double alpha = 16;
  bool use_rslora = false;
  uint64_t seed = 0;
  Dtype dtype = Dtype::kBF16;
  double std_a = 0.02;
  double std_b = 0.01;
};

// A PEFT pair. target_modules lists the full module paths; modules with their
// own rank or alpha appear in rank_pattern and alpha_pattern.
struct AdapterFiles {
  std::string config_json;        // adapter_config.json
  std::string safetensors_bytes;  // adapter_model.safetensors
};

AdapterFiles MakeRandomAdapter(absl::Span<const RandomAdapterModule> modules,
                               const RandomAdapterOptions& options);

// One tensor's values in float32, before the rounding to a dtype.
std::vector<float> RandomTensor(absl::string_view name, uint64_t count,
                                uint64_t seed, double std);

}  // namespace descant

#endif  // DESCANT_ADAPTERS_FORMATS_RANDOM_ADAPTER_H_
