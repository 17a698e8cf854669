// Hostile journals: the valid prefix is within the bytes and reads the same
// without what follows it.
#include <cstddef>
#include <cstdint>

#include "adapters/journal.h"
#include "runtime/base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  const descant::JournalContent content = descant::DecodeJournal(bytes);
  DESCANT_CHECK(content.valid_bytes <= size);
  const descant::JournalContent prefix =
      descant::DecodeJournal(bytes.substr(0, content.valid_bytes));
  DESCANT_CHECK(prefix.records.size() == content.records.size());
  DESCANT_CHECK(prefix.valid_bytes == content.valid_bytes);
  return 0;
}
