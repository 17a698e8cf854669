#include "runtime/model/file_weights.h"

#include <openssl/evp.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

constexpr int32_t kModelKinds = kWeightKinds - kLayerWeightKinds;
// Bytes hashed between two releases of pages.
constexpr size_t kHashChunk = 8 << 20;

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new()) {
    DESCANT_CHECK(context_ != nullptr);
    DESCANT_CHECK(EVP_DigestInit_ex(context_, EVP_sha256(), nullptr) == 1);
  }
  ~Sha256() { EVP_MD_CTX_free(context_); }
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void Add(absl::Span<const char> bytes) {
    DESCANT_CHECK(EVP_DigestUpdate(context_, bytes.data(), bytes.size()) == 1);
  }
  // Length-framed, so that fields can't run into each other.
  void AddText(const std::string& text) {
    const std::string framed = absl::StrCat(text.size(), ":", text);
    Add(framed);
  }
  std::string Finish() {
    char digest[32];
    unsigned int size = 0;
    DESCANT_CHECK(EVP_DigestFinal_ex(context_,
                                     reinterpret_cast<unsigned char*>(digest),
                                     &size) == 1 &&
                  size == sizeof digest);
    return absl::StrCat("sha256:", absl::BytesToHexString(absl::string_view(
                                       digest, sizeof digest)));
  }

 private:
  EVP_MD_CTX* const context_;
};

// Floats by their bits.
std::string Bits(float value) {
  return absl::StrCat(absl::Hex(std::bit_cast<uint32_t>(value)));
}

std::string CanonicalRope(const RopeConfig& rope) {
  std::string text = absl::StrCat(
      ";rope;", static_cast<int>(rope.scaling), ";", Bits(rope.theta), ";",
      Bits(rope.factor), ";", Bits(rope.low_freq_factor), ";",
      Bits(rope.high_freq_factor), ";", rope.original_max_position);
  for (const float divisor : rope.frequency_divisors) {
    absl::StrAppend(&text, ";", Bits(divisor));
  }
  if (rope.rotary_dim != 0) {
    absl::StrAppend(&text, ";rotary_dim=", rope.rotary_dim);
  }
  if (rope.attention_factor != 1.0f) {
    absl::StrAppend(&text, ";attention_factor=", Bits(rope.attention_factor));
  }
  if (rope.scaling == RopeScaling::kYarn) {
    absl::StrAppend(&text, ";yarn=", Bits(rope.beta_fast), ",",
                    Bits(rope.beta_slow), ",", rope.truncate);
  }
  return text;
}

// What Llama lacks, where it is not the default, so that another feature here
// leaves the fingerprints of models without it alone.
std::string CanonicalFeatures(const ModelConfig& config) {
  const ModelConfig usual;
  std::string text;
  const auto number = [&text](absl::string_view name, int32_t value,
                              int32_t missing) {
    if (value != missing) absl::StrAppend(&text, ";", name, "=", value);
  };
  const auto real = [&text](absl::string_view name, float value,
                            float missing) {
    if (value != missing) absl::StrAppend(&text, ";", name, "=", Bits(value));
  };
  number("norm", static_cast<int>(config.norm), static_cast<int>(usual.norm));
  number("post_norms", config.post_norms, usual.post_norms);
  number("qk_norm", config.qk_norm, usual.qk_norm);
  number("position", static_cast<int>(config.position),
         static_cast<int>(usual.position));
  number("activation", static_cast<int>(config.activation),
         static_cast<int>(usual.activation));
  number("gated_mlp", config.gated_mlp, usual.gated_mlp);
  number("qkv_bias", config.qkv_bias, usual.qkv_bias);
  number("out_bias", config.out_bias, usual.out_bias);
  number("mlp_bias", config.mlp_bias, usual.mlp_bias);
  real("embedding_scale", config.embedding_scale, usual.embedding_scale);
  real("attention_scale", config.attention_scale, usual.attention_scale);
  real("attention_logit_cap", config.attention_logit_cap,
       usual.attention_logit_cap);
  real("final_logit_cap", config.final_logit_cap, usual.final_logit_cap);
  number("naming", static_cast<int>(config.naming),
         static_cast<int>(usual.naming));
  if (!config.windows.empty()) {
    absl::StrAppend(&text, ";windows=", absl::StrJoin(config.windows, ","));
  }
  if (config.window_rope.has_value()) {
    absl::StrAppend(&text, ";window", CanonicalRope(*config.window_rope));
  }
  return text;
}

std::string CanonicalConfig(const ModelConfig& config) {
  return absl::StrCat(
      absl::StrCat("descant base 1;", config.architecture, ";",
                   config.num_layers, ";", config.hidden_size, ";",
                   config.intermediate_size, ";", config.num_heads, ";",
                   config.num_kv_heads, ";", config.head_dim, ";",
                   config.vocab_size, ";", Bits(config.norm_eps), ";",
                   config.tied_embeddings ? "tied" : "untied"),
      CanonicalRope(config.rope), CanonicalFeatures(config));
}

void AddTensor(const StoredTensor& tensor, Sha256* digest) {
  std::string header =
      absl::StrCat(TraitsOf(tensor.type).name, ";", tensor.interleaved_heads,
                   ";", tensor.bytes.size());
  if (tensor.stored_columns > 0) {
    absl::StrAppend(&header, ";transposed;", tensor.first_column);
  }
  if (tensor.plus_one) absl::StrAppend(&header, ";plus_one");
  digest->AddText(header);
  // The parts of a fused one share its bytes.
  if (tensor.first_column > 0) return;
  for (size_t at = 0; at < tensor.bytes.size(); at += kHashChunk) {
    const size_t size = std::min(kHashChunk, tensor.bytes.size() - at);
    digest->Add(tensor.bytes.subspan(at, size));
    if (tensor.file != nullptr) tensor.file->Release(tensor.offset + at, size);
  }
}

// How the elements lie: a vector in interleaved order has rows of one.
WeightShape LayoutOf(const StoredTensor& tensor, const WeightShape& shape) {
  if (shape.rows != 1 || tensor.interleaved_heads == 0) return shape;
  return {shape.columns, 1};
}

}  // namespace

FileWeights::FileWeights(const ModelConfig& config)
    : config_(config),
      tensors_(config.num_layers * kLayerWeightKinds + kModelKinds) {}

void FileWeights::Set(WeightKind kind, int32_t layer,
                      const StoredTensor& tensor) {
  DESCANT_CHECK(HasWeight(config_, kind));
  const WeightShape shape = ShapeOf(config_, kind);
  const StorageTraits& traits = TraitsOf(tensor.type);
  if (tensor.stored_columns > 0) {
    DESCANT_CHECK(traits.block_elements == 1 && tensor.first_column >= 0 &&
                  tensor.first_column + shape.rows <= tensor.stored_columns);
    DESCANT_CHECK(static_cast<int64_t>(tensor.bytes.size()) ==
                  shape.columns * tensor.stored_columns * traits.block_bytes);
    tensors_[IndexOf(kind, layer)] = tensor;
    return;
  }
  DESCANT_CHECK(shape.columns % traits.block_elements == 0);
  DESCANT_CHECK(static_cast<int64_t>(tensor.bytes.size()) ==
                shape.rows * (shape.columns / traits.block_elements) *
                    traits.block_bytes);
  tensors_[IndexOf(kind, layer)] = tensor;
}

void FileWeights::Own(std::shared_ptr<const void> file) {
  files_.push_back(std::move(file));
}

size_t FileWeights::IndexOf(WeightKind kind, int32_t layer) const {
  if (kind == WeightKind::kHead && config_.tied_embeddings) {
    kind = WeightKind::kEmbedding;
  }
  const int32_t index = static_cast<int32_t>(kind);
  if (index >= kLayerWeightKinds) {
    return config_.num_layers * kLayerWeightKinds + index - kLayerWeightKinds;
  }
  DESCANT_CHECK(layer >= 0 && layer < config_.num_layers);
  return layer * kLayerWeightKinds + index;
}

template <typename Visit>
void FileWeights::ForRows(const StoredTensor& tensor, int64_t row_begin,
                          int64_t rows, int64_t columns, int64_t total_rows,
                          Visit visit) const {
  DESCANT_CHECK(row_begin >= 0 && rows >= 0 && row_begin + rows <= total_rows);
  const StorageTraits& traits = TraitsOf(tensor.type);
  const int64_t row_bytes =
      columns / traits.block_elements * traits.block_bytes;
  const int64_t head_rows =
      tensor.interleaved_heads > 0 ? total_rows / tensor.interleaved_heads : 0;
  int64_t first = total_rows;
  int64_t last = 0;
  for (int64_t row = row_begin; row < row_begin + rows; ++row) {
    int64_t stored = row;
    if (head_rows > 0) {
      const int64_t in_head = row % head_rows;
      stored = row - in_head + in_head % (head_rows / 2) * 2 +
               in_head / (head_rows / 2);
    }
    visit(tensor.bytes.subspan(stored * row_bytes, row_bytes), row - row_begin);
    first = std::min(first, stored);
    last = std::max(last, stored + 1);
  }
  if (tensor.file != nullptr && first < last) {
    tensor.file->Release(tensor.offset + first * row_bytes,
                         (last - first) * row_bytes);
  }
}

void FileWeights::ReadTransposed(const StoredTensor& tensor,
                                 const WeightShape& shape, int64_t row_begin,
                                 absl::Span<float> out) const {
  const int64_t rows = static_cast<int64_t>(out.size()) / shape.columns;
  DESCANT_CHECK(row_begin >= 0 && row_begin + rows <= shape.rows);
  const int64_t bytes = TraitsOf(tensor.type).block_bytes;
  std::vector<float> column(rows);
  for (int64_t i = 0; i < shape.columns; ++i) {
    const int64_t at =
        i * tensor.stored_columns + tensor.first_column + row_begin;
    Dequantize(tensor.type, tensor.bytes.subspan(at * bytes, rows * bytes),
               absl::MakeSpan(column));
    for (int64_t row = 0; row < rows; ++row) {
      out[row * shape.columns + i] = column[row];
    }
  }
  // Every read touches every page: only the last one gives them back.
  if (tensor.file != nullptr && row_begin + rows == shape.rows) {
    tensor.file->Release(tensor.offset, tensor.bytes.size());
  }
}

absl::Status FileWeights::ReadBf16(WeightKind kind, int32_t layer,
                                   int64_t row_begin,
                                   absl::Span<BFloat16> out) const {
  const StoredTensor& tensor = tensors_[IndexOf(kind, layer)];
  const WeightShape shape = LayoutOf(tensor, ShapeOf(config_, kind));
  if (tensor.stored_columns > 0 || tensor.plus_one) {
    std::vector<float> values(out.size());
    DESCANT_RETURN_IF_ERROR(
        ReadFp32(kind, layer, row_begin, absl::MakeSpan(values)));
    std::transform(values.begin(), values.end(), out.begin(), ToBFloat16);
    return absl::OkStatus();
  }
  const int64_t rows = static_cast<int64_t>(out.size()) / shape.columns;
  DESCANT_CHECK(rows * shape.columns == static_cast<int64_t>(out.size()));
  ForRows(tensor, row_begin, rows, shape.columns, shape.rows,
          [&](absl::Span<const char> bytes, int64_t row) {
            DequantizeToBf16(tensor.type, bytes,
                             out.subspan(row * shape.columns, shape.columns));
          });
  return absl::OkStatus();
}

absl::Status FileWeights::ReadFp32(WeightKind kind, int32_t layer,
                                   int64_t row_begin,
                                   absl::Span<float> out) const {
  const StoredTensor& tensor = tensors_[IndexOf(kind, layer)];
  const WeightShape shape = LayoutOf(tensor, ShapeOf(config_, kind));
  const int64_t rows = static_cast<int64_t>(out.size()) / shape.columns;
  DESCANT_CHECK(rows * shape.columns == static_cast<int64_t>(out.size()));
  if (tensor.stored_columns > 0) {
    ReadTransposed(tensor, shape, row_begin, out);
  } else {
    ForRows(tensor, row_begin, rows, shape.columns, shape.rows,
            [&](absl::Span<const char> bytes, int64_t row) {
              Dequantize(tensor.type, bytes,
                         out.subspan(row * shape.columns, shape.columns));
            });
  }
  if (tensor.plus_one) {
    for (float& value : out) value += 1.0f;
  }
  return absl::OkStatus();
}

std::optional<StorageType> FileWeights::StoredAs(WeightKind kind,
                                                 int32_t layer) const {
  const StoredTensor& tensor = tensors_[IndexOf(kind, layer)];
  if (tensor.stored_columns > 0 || tensor.plus_one) return std::nullopt;
  return tensor.type;
}

absl::Status FileWeights::ReadStored(WeightKind kind, int32_t layer,
                                     int64_t row_begin,
                                     absl::Span<char> out) const {
  const StoredTensor& tensor = tensors_[IndexOf(kind, layer)];
  const WeightShape shape = LayoutOf(tensor, ShapeOf(config_, kind));
  const StorageTraits& traits = TraitsOf(tensor.type);
  const int64_t row_bytes =
      shape.columns / traits.block_elements * traits.block_bytes;
  const int64_t rows = static_cast<int64_t>(out.size()) / row_bytes;
  DESCANT_CHECK(rows * row_bytes == static_cast<int64_t>(out.size()));
  ForRows(tensor, row_begin, rows, shape.columns, shape.rows,
          [&](absl::Span<const char> bytes, int64_t row) {
            std::copy(bytes.begin(), bytes.end(),
                      out.begin() + row * row_bytes);
          });
  return absl::OkStatus();
}

std::string FileWeights::Fingerprint() const {
  Sha256 digest;
  digest.AddText(CanonicalConfig(config_));
  for (int32_t layer = 0; layer <= config_.num_layers; ++layer) {
    const bool of_model = layer == config_.num_layers;
    const int32_t end = of_model ? kWeightKinds : kLayerWeightKinds;
    for (int32_t i = of_model ? kLayerWeightKinds : 0; i < end; ++i) {
      const auto kind = static_cast<WeightKind>(i);
      if (!HasWeight(config_, kind)) continue;
      // A tied head has no bytes of its own.
      const bool tied = kind == WeightKind::kHead && config_.tied_embeddings;
      AddTensor(tied ? StoredTensor() : tensors_[IndexOf(kind, layer)],
                &digest);
    }
  }
  return digest.Finish();
}

}  // namespace descant
