#include "runtime/model/reference_runner.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

struct LinearWeights {
  WeightKind weight;
  WeightKind bias;
};

LinearWeights WeightsOf(LinearKind kind) {
  switch (kind) {
    case LinearKind::kQ:
      return {WeightKind::kQuery, WeightKind::kQueryBias};
    case LinearKind::kK:
      return {WeightKind::kKey, WeightKind::kKeyBias};
    case LinearKind::kV:
      return {WeightKind::kValue, WeightKind::kValueBias};
    case LinearKind::kO:
      return {WeightKind::kAttentionOut, WeightKind::kAttentionOutBias};
    case LinearKind::kGate:
      return {WeightKind::kGate, WeightKind::kGateBias};
    case LinearKind::kUp:
      return {WeightKind::kUp, WeightKind::kUpBias};
    case LinearKind::kDown:
    case LinearKind::kQkv:
    case LinearKind::kGateUp:
      break;
  }
  return {WeightKind::kDown, WeightKind::kDownBias};
}

// What a module's rows of B are for, one below the other.
std::vector<LinearKind> PartsOf(LinearKind kind) {
  if (kind == LinearKind::kQkv) {
    return {LinearKind::kQ, LinearKind::kK, LinearKind::kV};
  }
  if (kind == LinearKind::kGateUp) return {LinearKind::kGate, LinearKind::kUp};
  return {kind};
}

// c * tanh(x / c), or x.
at::Tensor Cap(const at::Tensor& x, float cap) {
  return cap > 0 ? at::tanh(x / cap) * cap : x;
}

at::TensorOptions Fp32() { return at::TensorOptions(at::kFloat); }

at::Tensor IntTensor(const std::vector<int32_t>& values) {
  return at::tensor(
      at::IntArrayRef(std::vector<int64_t>(values.begin(), values.end())),
      at::kLong);
}

at::ScalarType ScalarTypeOf(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF16:
      return at::kHalf;
    case Dtype::kBF16:
      return at::kBFloat16;
    case Dtype::kF32:
    case Dtype::kOther:
      break;
  }
  return at::kFloat;
}

at::Tensor ToFp32(const AdapterMatrix& matrix) {
  return at::from_blob(const_cast<void*>(matrix.data),
                       {matrix.rows, matrix.columns},
                       at::TensorOptions(ScalarTypeOf(matrix.dtype)))
      .to(at::kFloat)
      .clone();
}

absl::Status FromTorch(const std::exception& error) {
  return absl::InternalError(absl::StrCat("reference runner: ", error.what()));
}

// The tensors as they are; a slot has them in fp32.
struct ReferenceImage final : public AdapterImage {
  ReferenceImage(std::shared_ptr<const Adapter> a, uint64_t b)
      : adapter(std::move(a)), size(b) {}
  uint64_t bytes() const override { return size; }

  const std::shared_ptr<const Adapter> adapter;
  const uint64_t size;
};

}  // namespace

ReferenceRunner::ReferenceRunner(std::shared_ptr<const Model> model,
                                 const RunnerOptions& options)
    : model_(std::move(model)),
      limits_(options.limits),
      slots_(options.limits.max_slots),
      last_token_(options.limits.max_sequences, 0),
      scratch_(model_->config.vocab_size) {
  const ModelConfig& config = model_->config;
  const int64_t block_bytes = int64_t{2} * config.num_layers * kBlockSize *
                              config.num_kv_heads * config.head_dim *
                              sizeof(float);
  // By default every sequence at full length, within a quarter of memory.
  const int64_t quarter =
      int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGE_SIZE) / 4;
  const int64_t wanted =
      options.kv_bytes > 0
          ? static_cast<int64_t>(options.kv_bytes) / block_bytes
          : std::min(int64_t{limits_.max_sequences} *
                         limits_.max_blocks_per_sequence,
                     quarter / block_bytes);
  num_blocks_ = static_cast<int32_t>(
      std::min<int64_t>(wanted, std::numeric_limits<int32_t>::max()));
  output_.sequences.reserve(limits_.max_sequences);
  output_.sampled.reserve(limits_.max_outputs);
}

absl::StatusOr<at::Tensor> ReferenceRunner::Read(WeightKind kind,
                                                 int32_t layer) const {
  if (!HasWeight(model_->config, kind)) return at::Tensor();
  const WeightShape shape = ShapeOf(model_->config, kind);
  at::Tensor tensor = at::empty({shape.rows, shape.columns}, Fp32());
  DESCANT_RETURN_IF_ERROR(model_->weights->ReadFp32(
      kind, layer, 0,
      absl::MakeSpan(tensor.data_ptr<float>(), tensor.numel())));
  return shape.rows == 1 ? tensor.squeeze(0) : tensor;
}

absl::Status ReferenceRunner::LoadWeights() {
  const ModelConfig& config = model_->config;
  DESCANT_ASSIGN_OR_RETURN(embedding_, Read(WeightKind::kEmbedding, 0));
  DESCANT_ASSIGN_OR_RETURN(position_embedding_,
                           Read(WeightKind::kPositionEmbedding, 0));
  DESCANT_ASSIGN_OR_RETURN(final_norm_, Read(WeightKind::kFinalNorm, 0));
  DESCANT_ASSIGN_OR_RETURN(final_norm_bias_,
                           Read(WeightKind::kFinalNormBias, 0));
  head_ = embedding_;
  if (!config.tied_embeddings) {
    DESCANT_ASSIGN_OR_RETURN(head_, Read(WeightKind::kHead, 0));
  }
  layers_.resize(config.num_layers);
  for (int32_t i = 0; i < config.num_layers; ++i) {
    Layer& layer = layers_[i];
    for (int32_t kind = 0; kind < kLayerWeightKinds; ++kind) {
      DESCANT_ASSIGN_OR_RETURN(layer.weights[kind],
                               Read(static_cast<WeightKind>(kind), i));
    }
    layer.key_cache = at::zeros(
        {num_blocks_, kBlockSize, config.num_kv_heads, config.head_dim},
        Fp32());
    layer.value_cache = at::zeros_like(layer.key_cache);
  }
  return absl::OkStatus();
}

void ReferenceRunner::AddModule(const AdapterModule& module, Slot* slot) const {
  const at::Tensor a = ToFp32(module.a);
  const at::Tensor b = ToFp32(module.b);
  int64_t row = 0;
  for (const LinearKind part : PartsOf(module.kind)) {
    const int64_t rows = ShapeOf(model_->config, WeightsOf(part).weight).rows;
    slot->layers[module.layer][static_cast<size_t>(part)] = {
        a, b.slice(0, row, row + rows), module.scale};
    row += rows;
  }
}

absl::StatusOr<std::shared_ptr<const AdapterImage>>
ReferenceRunner::PackAdapter(
    const std::shared_ptr<const Adapter>& adapter) const {
  return std::shared_ptr<const AdapterImage>(
      std::make_shared<ReferenceImage>(adapter, AdapterBytes(*adapter)));
}

absl::Status ReferenceRunner::LoadImage(
    int32_t slot, const std::shared_ptr<const AdapterImage>& image) {
  DESCANT_CHECK(slot >= 0 && slot < limits_.max_slots);
  UnloadAdapter(slot);
  const auto& adapter = *static_cast<const ReferenceImage&>(*image).adapter;
  try {
    c10::InferenceMode guard;
    Slot loaded;
    loaded.loaded = true;
    loaded.bytes = image->bytes();
    loaded.layers.resize(model_->config.num_layers);
    for (const AdapterModule& module : adapter.modules) {
      AddModule(module, &loaded);
    }
    slots_[slot] = std::move(loaded);
  } catch (const std::exception& error) {
    return FromTorch(error);
  }
  used_ += image->bytes();
  return absl::OkStatus();
}

void ReferenceRunner::UnloadAdapter(int32_t slot) {
  DESCANT_CHECK(slot >= 0 && slot < limits_.max_slots);
  used_ -= slots_[slot].bytes;
  slots_[slot] = Slot();
}

uint64_t ReferenceRunner::AdapterBytes(const Adapter& adapter) const {
  uint64_t elements = 0;
  for (const AdapterModule& module : adapter.modules) {
    elements += uint64_t{1} * module.a.rows * module.a.columns +
                uint64_t{1} * module.b.rows * module.b.columns;
  }
  return elements * sizeof(float);
}

absl::Status ReferenceRunner::Validate(const Batch& batch) const {
  for (const Segment& segment : batch.segments) {
    if (!slots_[segment.slot].loaded) {
      return absl::FailedPreconditionError(
          absl::StrCat("no adapter in slot ", segment.slot));
    }
  }
  for (const BatchSequence& sequence : batch.sequences) {
    if (sequence.output == OutputKind::kPooled) {
      return absl::UnimplementedError("a decoder has no pooled output");
    }
  }
  return absl::OkStatus();
}

absl::Status ReferenceRunner::Launch(const Batch& batch) {
  DESCANT_CHECK(in_flight_ == nullptr);
  DESCANT_RETURN_IF_ERROR(Validate(batch));
  in_flight_ = &batch;
  return absl::OkStatus();
}

absl::StatusOr<const StepOutput*> ReferenceRunner::Collect() {
  DESCANT_CHECK(in_flight_ != nullptr);
  const Batch& batch = *std::exchange(in_flight_, nullptr);
  try {
    c10::InferenceMode guard;
    DESCANT_RETURN_IF_ERROR(Run(batch));
  } catch (const std::exception& error) {
    return FromTorch(error);
  }
  return &output_;
}

absl::Status ReferenceRunner::Run(const Batch& batch) {
  LayOutStepOutput(batch, model_->config.vocab_size, &output_);
  const at::Tensor hidden = Forward(batch);
  if (batch.outputs() == 0) return absl::OkStatus();
  const at::Tensor outputs =
      hidden.index_select(0, IntTensor(batch.output_rows));
  const at::Tensor logits =
      at::matmul(Norm(outputs, final_norm_, final_norm_bias_), head_.t());
  Sample(batch, Cap(logits, model_->config.final_logit_cap));
  return absl::OkStatus();
}

at::Tensor ReferenceRunner::InputTokens(const Batch& batch) const {
  std::vector<int32_t> tokens = batch.tokens;
  for (const BatchSequence& sequence : batch.sequences) {
    for (int32_t row = sequence.row_begin; row < sequence.row_end; ++row) {
      if (tokens[row] == kTokenFromLastStep) {
        tokens[row] = last_token_[sequence.state_slot];
      }
    }
  }
  return IntTensor(tokens);
}

at::Tensor ReferenceRunner::Forward(const Batch& batch) {
  const ModelConfig& config = model_->config;
  at::Tensor hidden = embedding_.index_select(0, InputTokens(batch));
  if (config.embedding_scale != 1.0f) hidden = hidden * config.embedding_scale;
  if (config.position == PositionKind::kLearned) {
    hidden = hidden +
             position_embedding_.index_select(0, IntTensor(batch.positions));
  }
  for (int32_t i = 0; i < config.num_layers; ++i) {
    const Layer& layer = layers_[i];
    at::Tensor y = Attention(batch, i,
                             Norm(hidden, layer[WeightKind::kAttentionNorm],
                                  layer[WeightKind::kAttentionNormBias]));
    if (config.post_norms) {
      y = RmsNorm(y, layer[WeightKind::kAttentionPostNorm]);
    }
    hidden = hidden + y;
    y = Mlp(batch, i,
            Norm(hidden, layer[WeightKind::kMlpNorm],
                 layer[WeightKind::kMlpNormBias]));
    if (config.post_norms) y = RmsNorm(y, layer[WeightKind::kMlpPostNorm]);
    hidden = hidden + y;
  }
  return hidden;
}

at::Tensor ReferenceRunner::Norm(const at::Tensor& x, const at::Tensor& weight,
                                 const at::Tensor& bias) const {
  if (model_->config.norm == NormKind::kLayer) {
    return at::layer_norm(x, {x.size(-1)}, weight, bias,
                          model_->config.norm_eps);
  }
  return RmsNorm(x, weight);
}

at::Tensor ReferenceRunner::RmsNorm(const at::Tensor& x,
                                    const at::Tensor& weight) const {
  const at::Tensor variance = x.pow(2).mean(-1, /*keepdim=*/true);
  return x * at::rsqrt(variance + model_->config.norm_eps) * weight;
}

at::Tensor ReferenceRunner::Activate(const at::Tensor& x) const {
  return model_->config.activation == Activation::kSilu ? at::silu(x)
                                                        : at::gelu(x, "tanh");
}

at::Tensor ReferenceRunner::Attention(const Batch& batch, int32_t layer,
                                      const at::Tensor& x) {
  const ModelConfig& config = model_->config;
  const int64_t rows = batch.rows();
  const auto heads = [&](LinearKind kind, int32_t count) {
    return Project(batch, layer, kind, x).view({rows, count, config.head_dim});
  };
  at::Tensor query = heads(LinearKind::kQ, config.num_heads);
  at::Tensor key = heads(LinearKind::kK, config.num_kv_heads);
  const at::Tensor value = heads(LinearKind::kV, config.num_kv_heads);
  if (config.qk_norm) {
    query = RmsNorm(query, layers_[layer][WeightKind::kQueryNorm]);
    key = RmsNorm(key, layers_[layer][WeightKind::kKeyNorm]);
  }
  if (config.position == PositionKind::kRope) {
    const at::Tensor positions = IntTensor(batch.positions).to(at::kFloat);
    query = Rotate(query, positions, layer);
    key = Rotate(key, positions, layer);
  }
  return Project(batch, layer, LinearKind::kO,
                 Attend(batch, layer, query, key, value));
}

at::Tensor ReferenceRunner::Mlp(const Batch& batch, int32_t layer,
                                const at::Tensor& x) const {
  at::Tensor up = Project(batch, layer, LinearKind::kUp, x);
  up = model_->config.gated_mlp
           ? Activate(Project(batch, layer, LinearKind::kGate, x)) * up
           : Activate(up);
  return Project(batch, layer, LinearKind::kDown, up);
}

at::Tensor ReferenceRunner::Project(const Batch& batch, int32_t layer,
                                    LinearKind kind,
                                    const at::Tensor& x) const {
  const LinearWeights weights = WeightsOf(kind);
  at::Tensor y = at::matmul(x, layers_[layer][weights.weight].t());
  const at::Tensor& bias = layers_[layer][weights.bias];
  if (bias.defined()) y.add_(bias);
  for (const Segment& segment : batch.segments) {
    const Lora& lora =
        slots_[segment.slot].layers[layer][static_cast<size_t>(kind)];
    if (!lora.a.defined()) continue;
    const at::Tensor rows = x.slice(0, segment.row_begin, segment.row_end);
    const at::Tensor delta =
        at::matmul(at::matmul(rows, lora.a.t()), lora.b.t());
    y.slice(0, segment.row_begin, segment.row_end)
        .add_(delta, segment.weight * lora.scale);
  }
  return y;
}

at::Tensor ReferenceRunner::Rotate(const at::Tensor& x,
                                   const at::Tensor& positions,
                                   int32_t layer) const {
  const int32_t head_dim = model_->config.head_dim;
  const RopeConfig& rope = RopeOf(model_->config, layer);
  const int64_t dim = RotaryDim(rope, head_dim);
  const at::Tensor frequencies = at::tensor(
      at::ArrayRef<float>(RopeInverseFrequencies(rope, head_dim)), at::kFloat);
  // [rows, 1, dim / 2]
  const at::Tensor angles = (positions.unsqueeze(1) * frequencies).unsqueeze(1);
  const at::Tensor cos = at::cos(angles) * rope.attention_factor;
  const at::Tensor sin = at::sin(angles) * rope.attention_factor;
  const at::Tensor first = x.slice(-1, 0, dim / 2);
  const at::Tensor second = x.slice(-1, dim / 2, dim);
  return at::cat({first * cos - second * sin, second * cos + first * sin,
                  x.slice(-1, dim)},
                 -1);
}

at::Tensor ReferenceRunner::Attend(const Batch& batch, int32_t layer,
                                   const at::Tensor& query,
                                   const at::Tensor& key,
                                   const at::Tensor& value) const {
  const ModelConfig& config = model_->config;
  const int64_t window = WindowOf(config, layer);
  const int64_t width = int64_t{config.num_heads} * config.head_dim;
  const int64_t group = config.num_heads / config.num_kv_heads;
  at::Tensor result = at::empty({batch.rows(), width}, Fp32());
  for (const BatchSequence& sequence : batch.sequences) {
    const int64_t rows = sequence.row_end - sequence.row_begin;
    const int64_t before = sequence.computed_length;
    const auto table = batch.block_tables.begin() + sequence.block_begin;
    const at::Tensor blocks =
        IntTensor(std::vector<int32_t>(table, table + sequence.block_count));
    // Where each position of this sequence lies in the flattened cache.
    const at::Tensor places =
        (blocks.unsqueeze(1) * kBlockSize + at::arange(kBlockSize))
            .flatten()
            .slice(0, 0, before + rows);
    const auto update = [&](const at::Tensor& cache, const at::Tensor& fresh) {
      at::Tensor flat = cache.view({-1, config.num_kv_heads, config.head_dim});
      flat.index_copy_(0, places.slice(0, before),
                       fresh.slice(0, sequence.row_begin, sequence.row_end));
      // [heads, positions, head_dim]
      return flat.index_select(0, places).transpose(0, 1).repeat_interleave(
          group, 0);
    };
    const at::Tensor keys = update(layers_[layer].key_cache, key);
    const at::Tensor values = update(layers_[layer].value_cache, value);
    const at::Tensor queries =
        query.slice(0, sequence.row_begin, sequence.row_end).transpose(0, 1);
    const at::Tensor scores =
        Cap(at::matmul(queries, keys.transpose(1, 2)) * AttentionScale(config),
            config.attention_logit_cap);
    // Row i sees positions up to before + i, the last `window` of them.
    const at::Tensor all = at::ones({rows, before + rows}, at::kBool);
    at::Tensor hidden = all.triu(before + 1);
    if (window > 0) hidden = hidden.logical_or(all.tril(before - window));
    const at::Tensor weights = at::softmax(
        scores.masked_fill(hidden, -std::numeric_limits<float>::infinity()),
        -1);
    result.slice(0, sequence.row_begin, sequence.row_end)
        .copy_(
            at::matmul(weights, values).transpose(0, 1).reshape({rows, width}));
  }
  return result;
}

void ReferenceRunner::Sample(const Batch& batch, const at::Tensor& logits) {
  const at::Tensor contiguous = logits.contiguous();
  const int64_t vocab = model_->config.vocab_size;
  for (size_t s = 0; s < batch.sequences.size(); ++s) {
    const BatchSequence& sequence = batch.sequences[s];
    bool more = true;
    for (int32_t i = sequence.output_begin; more && i < sequence.output_end;
         ++i) {
      const float* row = contiguous.data_ptr<float>() + i * vocab;
      const int32_t token = batch.tokens[batch.output_rows[i]];
      more = SampleOutput(batch, static_cast<int32_t>(s), i,
                          token == kTokenFromLastStep
                              ? last_token_[sequence.state_slot]
                              : token,
                          {row, size_t(vocab)}, &scratch_, &output_);
      last_token_[sequence.state_slot] = output_.sampled[i].token;
    }
  }
}

absl::StatusOr<std::unique_ptr<Runner>> MakeReferenceRunner(
    std::shared_ptr<const Model> model, const RunnerOptions& options) {
  try {
    c10::InferenceMode guard;
    if (options.threads > 0) at::set_num_threads(options.threads);
    auto runner = std::make_unique<ReferenceRunner>(std::move(model), options);
    DESCANT_RETURN_IF_ERROR(runner->LoadWeights());
    return runner;
  } catch (const std::exception& error) {
    return FromTorch(error);
  }
}

}  // namespace descant
