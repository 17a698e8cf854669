// Element and block types of GGUF tensors
// (https://github.com/ggml-org/ggml/blob/master/include/ggml.h).
#ifndef DESCANT_ADAPTERS_FORMATS_GGUF_TYPES_H_
#define DESCANT_ADAPTERS_FORMATS_GGUF_TYPES_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace descant {

// Numbers as in the file. Only types that this server reads.
enum class GgufType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kIQ4_XS = 23,
  kBF16 = 30,
};

// A row is a whole number of blocks.
struct GgufTypeTraits {
  absl::string_view name;
  uint32_t block_elements = 0;
  uint32_t block_bytes = 0;
};

// Null for a type this server does not read.
const GgufTypeTraits* FindGgufTypeTraits(uint32_t type);

// For an error message: the type's number, its name in ggml if it has one, and
// the types that are read.
std::string DescribeUnreadGgufType(uint32_t type);

}  // namespace descant

#endif  // DESCANT_ADAPTERS_FORMATS_GGUF_TYPES_H_
