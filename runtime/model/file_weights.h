// The base model's tensors where they lie: in mapped files.
#ifndef DESCANT_RUNTIME_MODEL_FILE_WEIGHTS_H_
#define DESCANT_RUNTIME_MODEL_FILE_WEIGHTS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "adapters/formats/mapped_file.h"
#include "runtime/model/dequantize.h"
#include "runtime/model/model_config.h"
#include "runtime/model/weight_source.h"

namespace descant {

// A row-major matrix in a mapped file, or some rows of one (of fused weights).
struct StoredTensor {
  StorageType type = StorageType::kF32;
  // > 0: stored [in, out] with that many columns (GPT-2's Conv1D), of which
  // this weight's rows are those from `first_column` on; `bytes` are all of
  // it. Not with block formats.
  int64_t stored_columns = 0;
  int64_t first_column = 0;
  // The value is 1 + what is stored, in fp32 (Gemma's norms).
  bool plus_one = false;
  // > 0: the rows (a bias: elements) of q or k with that many heads, in GGUF's
  // order for interleaved rope: row 2 i + h of a head is Hugging Face's row
  // h * head_dim / 2 + i.
  int32_t interleaved_heads = 0;
  absl::Span<const char> bytes;
  const MappedFile* file = nullptr;  // that `bytes` are of
  uint64_t offset = 0;               // of `bytes` in it
};

// Pages that were read are given back to the kernel, so that a load's memory
// does not grow by the file. Filled by a loader, then immutable.
class FileWeights final : public WeightSource {
 public:
  explicit FileWeights(const ModelConfig& config);

  // REQUIRES: HasWeight; bytes of exactly the shape of `kind`, or of a
  // transposed matrix that it is within.
  void Set(WeightKind kind, int32_t layer, const StoredTensor& tensor);
  // Keeps a file open as long as this object.
  void Own(std::shared_ptr<const void> file);

  absl::Status ReadBf16(WeightKind kind, int32_t layer, int64_t row_begin,
                        absl::Span<BFloat16> out) const override;
  absl::Status ReadFp32(WeightKind kind, int32_t layer, int64_t row_begin,
                        absl::Span<float> out) const override;
  std::optional<StorageType> StoredAs(WeightKind kind,
                                      int32_t layer) const override;
  absl::Status ReadStored(WeightKind kind, int32_t layer, int64_t row_begin,
                          absl::Span<char> out) const override;

  // "sha256:<hex>" over the configuration's fields (those that Llama lacks
  // where they are not the default) and, in order of layer and kind, each
  // tensor's stored type, layout and bytes. The same for the
  // same content whatever the file's name, shards, order or metadata; differs
  // between formats of the same values. Reads every byte.
  std::string Fingerprint() const;

 private:
  size_t IndexOf(WeightKind kind, int32_t layer) const;
  // Rows [row_begin, ...) of a transposed matrix, then releases.
  void ReadTransposed(const StoredTensor& tensor, const WeightShape& shape,
                      int64_t row_begin, absl::Span<float> out) const;
  // Calls visit(row bytes, row index) for each row of `out`, then releases.
  template <typename Visit>
  void ForRows(const StoredTensor& tensor, int64_t row_begin, int64_t rows,
               int64_t columns, int64_t total_rows, Visit visit) const;

  const ModelConfig config_;
  std::vector<StoredTensor> tensors_;  // layers * kinds, then the model's
  std::vector<std::shared_ptr<const void>> files_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_FILE_WEIGHTS_H_
