// The type of an exported checkpoint's tensors.
#ifndef DESCANT_RUNTIME_MODEL_EXPORT_DTYPE_H_
#define DESCANT_RUNTIME_MODEL_EXPORT_DTYPE_H_

#include <cstdint>

namespace descant {

// kAuto: each as in the base's Hugging Face directory; of a GGUF file fp32,
// which holds what is computed exactly.
enum class ExportDtype : uint8_t { kAuto, kFp32, kBf16, kFp16 };

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_EXPORT_DTYPE_H_
