// Bounds-checked reader of GGUF versions 2 and 3, little-endian
// (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). Every count,
// length and offset is checked against the file before it is used.
#ifndef DESCANT_ADAPTERS_FORMATS_GGUF_H_
#define DESCANT_ADAPTERS_FORMATS_GGUF_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "adapters/formats/gguf_types.h"
#include "adapters/formats/mapped_file.h"

namespace descant {

enum class GgufValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// One metadata value; views point into the file.
struct GgufValue {
  GgufValueType type = GgufValueType::kUint32;
  // Scalars: exactly the value's bytes. Arrays of scalars: all elements.
  absl::Span<const char> raw;
  absl::string_view string;  // kString
  // kArray (arrays of arrays are refused).
  GgufValueType element_type = GgufValueType::kUint32;
  uint64_t count = 0;
  std::vector<absl::string_view> strings;  // element_type == kString
};

struct GgufTensor {
  absl::string_view name;
  GgufType type = GgufType::kF32;
  // The file's order: dims[0] is contiguous. A [rows, columns] matrix has
  // dims {columns, rows}.
  std::vector<uint64_t> dims;
  uint64_t begin = 0;  // absolute byte offset in the file
  uint64_t bytes = 0;

  uint64_t columns() const { return dims.empty() ? 1 : dims[0]; }
  uint64_t rows() const;  // the product of the other dims
};

// Caps on what a file may list, for files that a client sent.
struct GgufLimits {
  uint64_t max_tensors = UINT64_MAX;
  uint64_t max_values = UINT64_MAX;  // metadata entries
};

// The parsed index of a file. Views point into the bytes it was parsed from.
// Immutable; thread-safe.
class GgufIndex {
 public:
  // INVALID_ARGUMENT with the reason GGUF_INVALID and the violated rule.
  static absl::StatusOr<GgufIndex> Parse(absl::Span<const char> file);

  // The same for a file that arrives from front to back: its first bytes and
  // the size it will have, against which every range is checked. Nothing while
  // the index does not end within `prefix`. Over a limit: GGUF_COUNT.
  // Allocates no more than a small multiple of `prefix`, whatever it says.
  static absl::StatusOr<std::optional<GgufIndex>> ParsePrefix(
      absl::Span<const char> prefix, uint64_t file_size,
      const GgufLimits& limits);

  uint32_t version() const { return version_; }
  uint64_t alignment() const { return alignment_; }
  // Where the entries end. Tensor data begins at the next multiple of
  // alignment().
  uint64_t header_bytes() const { return header_bytes_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor* FindTensor(absl::string_view name) const;
  const GgufValue* FindValue(absl::string_view key) const;
  // All keys, in no order.
  std::vector<absl::string_view> Keys() const;

  // Typed look-ups; empty where the key is missing or of another type. Any
  // integer type converts if the value fits; Float accepts both widths.
  std::optional<absl::string_view> GetString(absl::string_view key) const;
  std::optional<int64_t> GetInt(absl::string_view key) const;
  std::optional<double> GetFloat(absl::string_view key) const;
  std::optional<bool> GetBool(absl::string_view key) const;
  std::optional<absl::Span<const absl::string_view>> GetStringArray(
      absl::string_view key) const;
  std::optional<std::vector<int64_t>> GetIntArray(absl::string_view key) const;
  std::optional<std::vector<bool>> GetBoolArray(absl::string_view key) const;
  std::optional<std::vector<float>> GetFloatArray(absl::string_view key) const;

 private:
  friend class GgufParser;
  GgufIndex() = default;

  uint32_t version_ = 0;
  uint64_t alignment_ = 32;
  uint64_t header_bytes_ = 0;
  std::vector<GgufTensor> tensors_;
  absl::flat_hash_map<absl::string_view, size_t> tensor_index_;
  absl::flat_hash_map<absl::string_view, GgufValue> values_;
};

// A trusted file, mapped read-only. Immutable; thread-safe.
class GgufFile {
 public:
  // NOT_FOUND, INVALID_ARGUMENT; messages name the path.
  static absl::StatusOr<std::unique_ptr<GgufFile>> Open(
      const std::string& path);

  const GgufIndex& index() const { return index_; }
  // Valid while this object lives. Aligned to index().alignment() in the file.
  absl::Span<const char> Bytes(const GgufTensor& tensor) const {
    return file_.bytes().subspan(tensor.begin, tensor.bytes);
  }
  const MappedFile& file() const { return file_; }

 private:
  GgufFile(MappedFile file, GgufIndex index)
      : file_(std::move(file)), index_(std::move(index)) {}

  MappedFile file_;
  GgufIndex index_;
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_FORMATS_GGUF_H_
