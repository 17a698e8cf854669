// Models of real sizes without files: configurations of published models with
// random weights. For benches, and for tests of sizes that no stored golden
// has.
#ifndef DESCANT_TESTS_RUNTIME_MODEL_SYNTHETIC_MODEL_H_
#define DESCANT_TESTS_RUNTIME_MODEL_SYNTHETIC_MODEL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "adapters/adapter.h"
#include "runtime/model/model.h"

namespace descant {

// "gemma2-2b", "gpt2", ...
std::vector<std::string> SyntheticShapes();

// The configuration of a shape, cut to `layers` layers; 0: all it has. None:
// no such shape.
std::optional<ModelConfig> SyntheticConfig(const std::string& shape,
                                           int32_t layers);

// Weights are uniform with variance 1 / columns, norms in [0.5, 1.5), biases
// in [-0.1, 0.1), all rounded to bf16. No tokenizer, no fingerprint.
std::shared_ptr<const Model> MakeSyntheticModel(const ModelConfig& config,
                                                uint64_t seed);

// Random matrices of at most 0.01, scale 2; on every linear module, or on
// those of q and v (where they are fused: q, k and v).
std::shared_ptr<const Adapter> MakeSyntheticAdapter(const BaseShape& base,
                                                    int32_t rank,
                                                    bool all_modules,
                                                    uint32_t seed);

}  // namespace descant

#endif  // DESCANT_TESTS_RUNTIME_MODEL_SYNTHETIC_MODEL_H_
