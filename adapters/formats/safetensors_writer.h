// Writes the safetensors format. Output is canonical: tensors sorted by name,
// no gaps, header padded with spaces so that data starts at a multiple of 8.
#ifndef DESCANT_ADAPTERS_FORMATS_SAFETENSORS_WRITER_H_
#define DESCANT_ADAPTERS_FORMATS_SAFETENSORS_WRITER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "adapters/formats/dtype.h"

namespace descant {

// What a header says of a tensor.
struct SafetensorsSpec {
  std::string name;
  std::string dtype;  // the format's name: "BF16"
  std::vector<uint64_t> shape;
  uint64_t bytes = 0;
};

// The header's "__metadata__".
using SafetensorsMetadata = std::map<std::string, std::string>;

// Everything before the tensors' data, which follow in the order of `specs`.
// REQUIRES: unique names, and bytes that match shape x dtype.
std::string SafetensorsHeader(absl::Span<const SafetensorsSpec> specs,
                              const SafetensorsMetadata& metadata);

struct SafetensorsEntry {
  std::string name;
  Dtype dtype = Dtype::kF32;
  std::vector<uint64_t> shape;
  std::string bytes;
};

// The whole file. REQUIRES: unique names, and bytes that match shape x dtype.
std::string WriteSafetensors(std::vector<SafetensorsEntry> entries);

}  // namespace descant

#endif  // DESCANT_ADAPTERS_FORMATS_SAFETENSORS_WRITER_H_
