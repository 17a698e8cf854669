// Element types of tensors in files.
#ifndef DESCANT_ADAPTERS_FORMATS_DTYPE_H_
#define DESCANT_ADAPTERS_FORMATS_DTYPE_H_

#include <cstdint>

#include "absl/strings/string_view.h"

namespace descant {

// kOther: a type of the safetensors format that this server does not compute
// with. It is accepted in a base model's file and refused on use.
enum class Dtype : uint8_t { kF32, kF16, kBF16, kOther };

// Bytes of one element; 0 for kOther.
constexpr int32_t DtypeBytes(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF32:
      return 4;
    case Dtype::kF16:
    case Dtype::kBF16:
      return 2;
    case Dtype::kOther:
      break;
  }
  return 0;
}

// The name in a safetensors header.
constexpr absl::string_view DtypeName(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF32:
      return "F32";
    case Dtype::kF16:
      return "F16";
    case Dtype::kBF16:
      return "BF16";
    case Dtype::kOther:
      break;
  }
  return "other";
}

}  // namespace descant

#endif  // DESCANT_ADAPTERS_FORMATS_DTYPE_H_
