// The architectures whose Hugging Face checkpoints are computed: how each
// one's config.json is read and what its tensors are called.
#ifndef DESCANT_RUNTIME_MODEL_HF_FAMILIES_H_
#define DESCANT_RUNTIME_MODEL_HF_FAMILIES_H_

#include <array>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "runtime/model/hf_object_reader.h"
#include "runtime/model/model_config.h"
#include "runtime/model/weight_source.h"

namespace descant {

// One tensor and the weights it holds, one below the other.
struct TensorRule {
  absl::string_view name;  // of a layer's: without "model.layers.3."
  std::array<WeightKind, 3> parts;
  int32_t num_parts = 1;
  bool conv1d = false;  // stored [in, out]
};

struct HuggingFaceFamily {
  absl::string_view architecture;  // "LlamaForCausalLM"
  // Everything but eos_token_id and validation.
  void (*read)(ObjectReader* root, ModelConfig* model);
  absl::string_view prefix;  // of the decoder's tensors: "model."
  absl::string_view layers;  // "layers", then the number
  absl::Span<const TensorRule> layer_modules;  // weights and biases
  absl::Span<const TensorRule> layer_norms;
  absl::Span<const TensorRule> model_tensors;
  bool norms_plus_one = false;  // norms multiply with 1 + what is stored
};

// Null for an architecture that is not computed.
const HuggingFaceFamily* FindHuggingFaceFamily(absl::string_view architecture);

// All of them, for messages: "LlamaForCausalLM, ...".
std::string HuggingFaceFamilyNames();

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_HF_FAMILIES_H_
