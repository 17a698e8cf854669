// A stream of a GGUF LoRA file in, the PEFT pair it stands for out. The files
// are those of llama.cpp's convert_lora_to_gguf.py; they mean what llama.cpp
// computes from them: y += scale * B (A x) with scale = alpha / rank, or 1
// where alpha is 0 or missing. What this server can't compute so is refused by
// name: activated LoRA, embeddings and the output head, norms, quantised
// tensors, unknown keys.
#ifndef DESCANT_ADAPTERS_GGUF_LORA_H_
#define DESCANT_ADAPTERS_GGUF_LORA_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "adapters/base_shape.h"
#include "adapters/validate.h"

namespace descant {

// Fed with the file in order. One thread. After an error every call returns
// that error. Holds at most limits.max_header_bytes until the header is
// complete, then one head of one tensor.
//
// The pair is for an AdapterValidator, which checks everything again, and the
// values for the first time. Names, dtypes and bytes are those of the PEFT
// files the GGUF file was made from; the tensors stand in the GGUF's order.
class GgufLoraReader {
 public:
  // `declared_size`: of the GGUF file; 0 is UPLOAD_SIZE_MISSING, over the
  // limit RESOURCE_EXHAUSTED. `base` must outlive this.
  static absl::StatusOr<std::unique_ptr<GgufLoraReader>> Create(
      uint64_t declared_size, const BaseShape* base,
      const AdapterLimits& limits);
  ~GgufLoraReader();

  // Takes the next bytes of the file and appends what they give of the
  // safetensors file to *out: at most their size, a head and the header.
  // INVALID_ARGUMENT, with a reason of adapters/formats/format_reason.h or
  // adapters/error_reason.h; what was appended before an error is void.
  absl::Status Append(absl::Span<const char> chunk, std::string* out);

  // Whether the two below are known. Before that Append gives nothing.
  bool header_done() const;
  const std::string& config_json() const;  // adapter_config.json
  uint64_t safetensors_bytes() const;

  // After the last byte: UPLOAD_TRUNCATED if some are missing.
  absl::Status Finish();

 private:
  class State;
  explicit GgufLoraReader(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_GGUF_LORA_H_
