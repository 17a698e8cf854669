// What the header of a GGUF LoRA file says, as the PEFT pair to be made of it.
// A part of adapters/gguf_lora.
#ifndef DESCANT_ADAPTERS_GGUF_LORA_PLAN_H_
#define DESCANT_ADAPTERS_GGUF_LORA_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "adapters/base_shape.h"
#include "adapters/formats/gguf.h"

namespace descant {

struct GgufLoraTensor {
  uint64_t begin = 0;  // of the GGUF file
  uint64_t end = 0;
  // 0: the bytes are PEFT's. Else of every head_bytes the rows, of row_bytes
  // each, have the halves interleaved.
  uint64_t head_bytes = 0;
  uint64_t row_bytes = 0;
};

struct GgufLoraPlan {
  std::string config_json;
  std::string safetensors_header;  // with its length in front
  uint64_t safetensors_bytes = 0;
  // By offset. Between two of them, before the first and after the last one
  // there is nothing but the padding to the file's alignment.
  std::vector<GgufLoraTensor> tensors;
};

// Owns nothing of `index`. INVALID_ARGUMENT.
absl::StatusOr<GgufLoraPlan> PlanGgufLora(const GgufIndex& index,
                                          uint64_t file_size,
                                          const BaseShape& base,
                                          int32_t max_rank);

// One module of the file, for the config.
struct GgufLoraModule {
  const BaseModule* module = nullptr;
  int32_t rank = 0;
};

// An adapter_config.json whose scale is alpha / rank for each of `modules`
// (alpha 0: 1), and that targets these and no others of the base. The name may
// be any bytes; empty: none. REQUIRES: a finite alpha, at least one module.
std::string GgufLoraConfig(const std::vector<GgufLoraModule>& modules,
                           const BaseShape& base, float alpha,
                           absl::string_view base_model_name);

}  // namespace descant

#endif  // DESCANT_ADAPTERS_GGUF_LORA_PLAN_H_
