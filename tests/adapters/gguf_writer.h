// GGUF files for tests.
#ifndef DESCANT_TESTS_ADAPTERS_GGUF_WRITER_H_
#define DESCANT_TESTS_ADAPTERS_GGUF_WRITER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "adapters/formats/gguf.h"
#include "runtime/base/little_endian.h"

namespace descant {

// Writes GGUF piece by piece, right or wrong.
class GgufWriter {
 public:
  template <typename T>
  GgufWriter& Number(T value) {
    AppendLittleEndian(value, &bytes_);
    return *this;
  }
  GgufWriter& Text(absl::string_view text) {
    Number<uint64_t>(text.size());
    bytes_.append(text.data(), text.size());
    return *this;
  }
  GgufWriter& Raw(const std::string& raw) {
    bytes_ += raw;
    return *this;
  }
  GgufWriter& Head(uint64_t tensors, uint64_t values, uint32_t version = 3) {
    return Raw("GGUF").Number(version).Number(tensors).Number(values);
  }
  GgufWriter& Key(absl::string_view key, GgufValueType type) {
    return Text(key).Number(static_cast<uint32_t>(type));
  }
  GgufWriter& Tensor(absl::string_view name, std::vector<uint64_t> dims,
                     uint32_t type, uint64_t offset) {
    Text(name).Number(static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) Number(dim);
    return Number(type).Number(offset);
  }
  GgufWriter& Data(size_t bytes, size_t alignment = 32) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
    bytes_.resize(bytes_.size() + bytes, 'd');
    return *this;
  }
  std::string bytes_;
};

}  // namespace descant

#endif  // DESCANT_TESTS_ADAPTERS_GGUF_WRITER_H_
