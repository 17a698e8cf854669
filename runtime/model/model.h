// The base model as the rest of the server sees it: configuration, identity,
// vocabulary, and the factories of its runners. No Torch in this header.
#ifndef DESCANT_RUNTIME_MODEL_MODEL_H_
#define DESCANT_RUNTIME_MODEL_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "adapters/base_shape.h"
#include "runtime/core/batch.h"
#include "runtime/model/model_config.h"
#include "runtime/model/runner.h"
#include "runtime/model/weight_type.h"

namespace descant {

class Tokenizer;     // runtime/tokenizer/tokenizer.h
class WeightSource;  // runtime/model/weight_source.h

// How a runner is made. Zero means: chosen from the machine.
struct RunnerOptions {
  BatchLimits limits;
  uint64_t kv_bytes = 0;
  uint64_t adapter_bytes = 0;
  // Of a GPU: what the KV cache, where its size is chosen from the machine,
  // leaves to merged weights.
  uint64_t merged_bytes = 0;
  int32_t threads = 0;
  WeightType weights = WeightType::kBf16;
  AdapterWeightType adapter_weights = AdapterWeightType::kBf16;
  // A folder for packed weights: the CPU runner takes them from there and keeps
  // them there. Empty: it packs them each time.
  std::string weights_cache;
};

// Everything read from the model's files except the weights themselves, which
// a runner packs from `weights` when it is made. Immutable after Load.
struct Model {
  ModelConfig config;
  BaseShape base_shape;  // adaptable modules and the fingerprint
  std::string name;      // the directory's or file's, without .gguf
  std::string chat_template;
  std::string tool_use_template;  // for conversations with tools; may be empty
  std::vector<int32_t> eos_token_ids;
  std::shared_ptr<const WeightSource> weights;
};

// What an adapter on all modules takes merged, in 16 bits a weight.
uint64_t MostMergedBytes(const Model& model);

struct LoadedModel {
  std::shared_ptr<const Model> model;
  std::shared_ptr<const Tokenizer> tokenizer;
};

// `path`: a Hugging Face directory or one GGUF file. Errors name the file and
// the rule: INVALID_ARGUMENT (unknown architecture, missing tensor, wrong
// shape, unknown tokenizer), NOT_FOUND. Reads the weights once, to fingerprint
// them (about 0.1 s per 100 MB), and keeps none of them.
absl::StatusOr<LoadedModel> LoadModel(const std::string& path);

// Plain ATen in fp32: the oracle. Slow. `threads` sets ATen's, which belong to
// the process; `weights` is ignored.
absl::StatusOr<std::unique_ptr<Runner>> MakeReferenceRunner(
    std::shared_ptr<const Model> model, const RunnerOptions& options);

// The first GPU (of CUDA_VISIBLE_DEVICES). UNIMPLEMENTED: this build has no
// CUDA. UNAVAILABLE: no driver or no GPU. FAILED_PRECONDITION: a GPU that the
// kernels are not built for, or LibTorch's CUDA libraries are not there.
// INVALID_ARGUMENT: weights other than bf16. RESOURCE_EXHAUSTED: its memory.
absl::StatusOr<std::unique_ptr<Runner>> MakeCudaRunner(
    std::shared_ptr<const Model> model, const RunnerOptions& options);

// Packed weights, hand-written kernels, pinned workers.
absl::StatusOr<std::unique_ptr<Runner>> MakeCpuRunner(
    std::shared_ptr<const Model> model, const RunnerOptions& options);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_MODEL_H_
