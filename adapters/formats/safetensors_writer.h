// Writes the safetensors format. Output is canonical: tensors sorted by name,
// no gaps, header padded with spaces so that data starts at a multiple of 8.
#ifndef DESCANT_ADAPTERS_FORMATS_SAFETENSORS_WRITER_H_
#define DESCANT_ADAPTERS_FORMATS_SAFETENSORS_WRITER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "adapters/formats/dtype.h"

namespace descant {

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
