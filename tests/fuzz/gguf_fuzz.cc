// Hostile GGUF files.
#include <cstddef>
#include <cstdint>

#include "adapters/formats/gguf.h"
#include "runtime/base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto index = descant::GgufIndex::Parse(
      absl::MakeConstSpan(reinterpret_cast<const char*>(data), size));
  if (!index.ok()) return 0;
  for (const descant::GgufTensor& tensor : index->tensors()) {
    DESCANT_CHECK(tensor.begin <= size && tensor.bytes <= size - tensor.begin);
    DESCANT_CHECK(index->FindTensor(tensor.name) == &tensor);
    const auto* traits =
        descant::FindGgufTypeTraits(static_cast<uint32_t>(tensor.type));
    DESCANT_CHECK(traits != nullptr);
    DESCANT_CHECK(tensor.columns() % traits->block_elements == 0);
    DESCANT_CHECK(tensor.columns() / traits->block_elements * tensor.rows() *
                      traits->block_bytes ==
                  tensor.bytes);
  }
  for (const char* key : {"tokens", "types", "llama.eps", "flag"}) {
    index->GetString(key);
    index->GetInt(key);
    index->GetFloat(key);
    index->GetBool(key);
    index->GetStringArray(key);
    index->GetIntArray(key);
    index->GetBoolArray(key);
    index->GetFloatArray(key);
  }
  return 0;
}
