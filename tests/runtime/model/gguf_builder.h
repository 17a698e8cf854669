// Writes small GGUF version 3 files for tests.
#ifndef DESCANT_TESTS_RUNTIME_MODEL_GGUF_BUILDER_H_
#define DESCANT_TESTS_RUNTIME_MODEL_GGUF_BUILDER_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "adapters/formats/gguf.h"

namespace descant {

// Keys and tensors may be replaced or erased by name before Build().
class GgufBuilder {
 public:
  void Set(const std::string& key, const std::string& value) {
    Typed(key, GgufValueType::kString) += Text(value);
  }
  void Set(const std::string& key, uint32_t value) {
    Typed(key, GgufValueType::kUint32) += Raw(value);
  }
  void Set(const std::string& key, float value) {
    Typed(key, GgufValueType::kFloat32) += Raw(value);
  }
  void Set(const std::string& key, bool value) {
    Typed(key, GgufValueType::kBool) += Raw(uint8_t{value});
  }
  void Set(const std::string& key, const std::vector<std::string>& values) {
    std::string& bytes = Typed(key, GgufValueType::kArray);
    bytes += Raw(GgufValueType::kString) + Raw(uint64_t{values.size()});
    for (const std::string& value : values) bytes += Text(value);
  }
  void Set(const std::string& key, const std::vector<bool>& values) {
    std::string& bytes = Typed(key, GgufValueType::kArray);
    bytes += Raw(GgufValueType::kBool) + Raw(uint64_t{values.size()});
    for (const bool value : values) bytes += Raw(uint8_t{value});
  }
  // `dims` in the file's order: columns first.
  void SetTensor(const std::string& name, uint32_t type,
                 std::vector<uint64_t> dims, std::string bytes) {
    tensors_[name] = {type, std::move(dims), std::move(bytes)};
  }
  void SetTensor(const std::string& name, std::vector<uint64_t> dims,
                 const std::vector<float>& values) {
    SetTensor(name, static_cast<uint32_t>(GgufType::kF32), std::move(dims),
              std::string(reinterpret_cast<const char*>(values.data()),
                          values.size() * sizeof(float)));
  }
  void EraseKey(const std::string& key) { keys_.erase(key); }
  void EraseTensor(const std::string& name) { tensors_.erase(name); }

  std::string Build() const {
    std::string file = "GGUF" + Raw(uint32_t{3}) +
                       Raw(uint64_t{tensors_.size()}) +
                       Raw(uint64_t{keys_.size()});
    for (const auto& [key, bytes] : keys_) file += Text(key) + bytes;
    uint64_t offset = 0;
    for (const auto& [name, tensor] : tensors_) {
      file += Text(name) + Raw(static_cast<uint32_t>(tensor.dims.size()));
      for (const uint64_t dim : tensor.dims) file += Raw(dim);
      file += Raw(tensor.type) + Raw(offset);
      offset += Aligned(tensor.bytes.size());
    }
    file.resize(Aligned(file.size()));
    for (const auto& entry : tensors_) {
      file += entry.second.bytes;
      file.resize(Aligned(file.size()));
    }
    return file;
  }

 private:
  struct Tensor {
    uint32_t type;
    std::vector<uint64_t> dims;
    std::string bytes;
  };

  template <typename T>
  static std::string Raw(T value) {
    return std::string(reinterpret_cast<const char*>(&value), sizeof value);
  }
  static std::string Text(const std::string& text) {
    return Raw(uint64_t{text.size()}) + text;
  }
  static uint64_t Aligned(uint64_t size) { return (size + 31) / 32 * 32; }
  std::string& Typed(const std::string& key, GgufValueType type) {
    return keys_[key] = Raw(type);
  }

  std::map<std::string, std::string> keys_;
  std::map<std::string, Tensor> tensors_;
};

}  // namespace descant

#endif  // DESCANT_TESTS_RUNTIME_MODEL_GGUF_BUILDER_H_
