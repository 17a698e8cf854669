#include "runtime/model/file_weights.h"

#include <openssl/evp.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"

namespace descant {
namespace {

constexpr int32_t kLayerKinds = static_cast<int32_t>(WeightKind::kDown) + 1;
constexpr int32_t kModelKinds =
    static_cast<int32_t>(WeightKind::kHead) + 1 - kLayerKinds;
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
std::string CanonicalConfig(const ModelConfig& config) {
  const auto bits = [](float value) {
    return absl::StrCat(absl::Hex(std::bit_cast<uint32_t>(value)));
  };
  const RopeConfig& rope = config.rope;
  std::string text = absl::StrCat(
      "descant base 1;", config.architecture, ";", config.num_layers, ";",
      config.hidden_size, ";", config.intermediate_size, ";", config.num_heads,
      ";", config.num_kv_heads, ";", config.head_dim, ";", config.vocab_size,
      ";", bits(config.rms_norm_eps), ";",
      config.tied_embeddings ? "tied" : "untied");
  absl::StrAppend(&text, ";rope;", static_cast<int>(rope.scaling), ";",
                  bits(rope.theta), ";", bits(rope.factor), ";",
                  bits(rope.low_freq_factor), ";", bits(rope.high_freq_factor),
                  ";", rope.original_max_position);
  for (const float divisor : rope.frequency_divisors) {
    absl::StrAppend(&text, ";", bits(divisor));
  }
  return text;
}

}  // namespace

WeightShape ShapeOf(const ModelConfig& config, WeightKind kind) {
  const int64_t hidden = config.hidden_size;
  const int64_t intermediate = config.intermediate_size;
  const int64_t query = int64_t{config.num_heads} * config.head_dim;
  const int64_t key = int64_t{config.num_kv_heads} * config.head_dim;
  switch (kind) {
    case WeightKind::kAttentionNorm:
    case WeightKind::kMlpNorm:
    case WeightKind::kFinalNorm:
      return {1, hidden};
    case WeightKind::kQuery:
      return {query, hidden};
    case WeightKind::kKey:
    case WeightKind::kValue:
      return {key, hidden};
    case WeightKind::kAttentionOut:
      return {hidden, query};
    case WeightKind::kGate:
    case WeightKind::kUp:
      return {intermediate, hidden};
    case WeightKind::kDown:
      return {hidden, intermediate};
    case WeightKind::kEmbedding:
    case WeightKind::kHead:
      return {config.vocab_size, hidden};
  }
  return {};
}

FileWeights::FileWeights(const ModelConfig& config)
    : config_(config),
      tensors_(config.num_layers * kLayerKinds + kModelKinds) {}

void FileWeights::Set(WeightKind kind, int32_t layer,
                      const StoredTensor& tensor) {
  const WeightShape shape = ShapeOf(config_, kind);
  const StorageTraits& traits = TraitsOf(tensor.type);
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
  if (index >= kLayerKinds) {
    return config_.num_layers * kLayerKinds + index - kLayerKinds;
  }
  DESCANT_CHECK(layer >= 0 && layer < config_.num_layers);
  return layer * kLayerKinds + index;
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

absl::Status FileWeights::ReadBf16(WeightKind kind, int32_t layer,
                                   int64_t row_begin,
                                   absl::Span<BFloat16> out) const {
  const StoredTensor& tensor = tensors_[IndexOf(kind, layer)];
  const WeightShape shape = ShapeOf(config_, kind);
  const int64_t rows = static_cast<int64_t>(out.size()) / shape.columns;
  DESCANT_CHECK(rows * shape.columns == static_cast<int64_t>(out.size()));
  std::vector<float> buffer(shape.columns);
  ForRows(tensor, row_begin, rows, shape.columns, shape.rows,
          [&](absl::Span<const char> bytes, int64_t row) {
            BFloat16* const to = out.data() + row * shape.columns;
            if (tensor.type == StorageType::kBF16) {
              std::memcpy(to, bytes.data(), bytes.size());
              return;
            }
            Dequantize(tensor.type, bytes, absl::MakeSpan(buffer));
            std::transform(buffer.begin(), buffer.end(), to, ToBFloat16);
          });
  return absl::OkStatus();
}

absl::Status FileWeights::ReadFp32(WeightKind kind, int32_t layer,
                                   int64_t row_begin,
                                   absl::Span<float> out) const {
  const StoredTensor& tensor = tensors_[IndexOf(kind, layer)];
  const WeightShape shape = ShapeOf(config_, kind);
  const int64_t rows = static_cast<int64_t>(out.size()) / shape.columns;
  DESCANT_CHECK(rows * shape.columns == static_cast<int64_t>(out.size()));
  ForRows(tensor, row_begin, rows, shape.columns, shape.rows,
          [&](absl::Span<const char> bytes, int64_t row) {
            Dequantize(tensor.type, bytes,
                       out.subspan(row * shape.columns, shape.columns));
          });
  return absl::OkStatus();
}

std::string FileWeights::Fingerprint() const {
  Sha256 digest;
  digest.AddText(CanonicalConfig(config_));
  for (const StoredTensor& tensor : tensors_) {
    digest.AddText(absl::StrCat(TraitsOf(tensor.type).name, ";",
                                tensor.interleaved_heads, ";",
                                tensor.bytes.size()));
    for (size_t at = 0; at < tensor.bytes.size(); at += kHashChunk) {
      const size_t size = std::min(kHashChunk, tensor.bytes.size() - at);
      digest.Add(tensor.bytes.subspan(at, size));
      if (tensor.file != nullptr) {
        tensor.file->Release(tensor.offset + at, size);
      }
    }
  }
  return digest.Finish();
}

}  // namespace descant
