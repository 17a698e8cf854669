// Reader of the safetensors format (https://github.com/huggingface/safetensors,
// section "Format"): 8 bytes little-endian N, N bytes of JSON, tensor data.
// Every rule of the format is checked before any tensor is read: data ranges
// are in the file, disjoint, without holes, and end where the file ends.
#ifndef DESCANT_ADAPTERS_FORMATS_SAFETENSORS_H_
#define DESCANT_ADAPTERS_FORMATS_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "adapters/formats/dtype.h"
#include "adapters/formats/mapped_file.h"

namespace descant {

struct SafetensorsTensor {
  std::string name;
  Dtype dtype = Dtype::kOther;
  absl::string_view dtype_name;  // as in the file, kOther's too
  absl::InlinedVector<uint64_t, 2> shape;
  uint64_t begin = 0;  // absolute byte offsets in the file
  uint64_t end = 0;

  uint64_t bytes() const { return end - begin; }
};

struct SafetensorsIndex {
  std::vector<SafetensorsTensor> tensors;  // by name
  uint64_t data_begin = 0;                 // 8 + N
  uint64_t file_size = 0;

  // Null where there is none.
  const SafetensorsTensor* Find(absl::string_view name) const;
};

struct SafetensorsLimits {
  uint64_t max_header_bytes = 1 << 20;
  int32_t max_tensors = 4096;
  int32_t min_dims = 2;
  int32_t max_dims = 2;
  uint64_t min_dim = 1;  // smallest length of a dimension
  uint64_t max_name_bytes = 256;
  bool any_dtype = false;  // accept (as kOther) what is not F32, F16, BF16

  // For files of the base model, which the operator chose.
  static SafetensorsLimits BaseModel();
};

inline constexpr size_t kSafetensorsPrefixBytes = 8;

// N, from the file's first 8 bytes. REQUIRES: prefix.size() == 8.
absl::StatusOr<uint64_t> ParseSafetensorsPrefix(
    absl::Span<const char> prefix, uint64_t file_size,
    const SafetensorsLimits& limits);

// `header` is the N bytes after the prefix. Errors are INVALID_ARGUMENT with
// the reason of the violated rule (adapters/formats/format_reason.h).
absl::StatusOr<SafetensorsIndex> ParseSafetensorsHeader(
    absl::Span<const char> header, uint64_t file_size,
    const SafetensorsLimits& limits);

// A whole file in memory, prefix included.
absl::StatusOr<SafetensorsIndex> ParseSafetensors(
    absl::Span<const char> file, const SafetensorsLimits& limits);

// A trusted file (the base model's), mapped read-only. Immutable;
// thread-safe.
class SafetensorsFile {
 public:
  // NOT_FOUND, INVALID_ARGUMENT; messages name the path.
  static absl::StatusOr<std::unique_ptr<SafetensorsFile>> Open(
      const std::string& path,
      const SafetensorsLimits& limits = SafetensorsLimits::BaseModel());

  const SafetensorsIndex& index() const { return index_; }
  // The tensor's bytes, valid while this object lives. Not aligned to the
  // element. REQUIRES: `tensor` is one of index().
  absl::Span<const char> Bytes(const SafetensorsTensor& tensor) const {
    return file_.bytes().subspan(tensor.begin, tensor.bytes());
  }
  const MappedFile& file() const { return file_; }

 private:
  SafetensorsFile(MappedFile file, SafetensorsIndex index)
      : file_(std::move(file)), index_(std::move(index)) {}

  MappedFile file_;
  SafetensorsIndex index_;
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_FORMATS_SAFETENSORS_H_
