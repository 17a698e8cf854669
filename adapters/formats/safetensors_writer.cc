#include "adapters/formats/safetensors_writer.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "adapters/formats/json.h"
#include "runtime/base/check.h"
#include "runtime/base/little_endian.h"

namespace descant {

std::string WriteSafetensors(std::vector<SafetensorsEntry> entries) {
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  std::string header = "{";
  uint64_t offset = 0;
  for (const SafetensorsEntry& entry : entries) {
    uint64_t bytes = static_cast<uint64_t>(DtypeBytes(entry.dtype));
    for (const uint64_t dim : entry.shape) bytes *= dim;
    DESCANT_CHECK(bytes == entry.bytes.size());
    const absl::string_view dtype = DtypeName(entry.dtype);
    absl::StrAppend(&header, offset == 0 && header.size() == 1 ? "" : ",",
                    JsonQuote(entry.name), ":{\"dtype\":\"", dtype,
                    "\",\"shape\":[", absl::StrJoin(entry.shape, ","),
                    "],\"data_offsets\":[", offset, ",", offset + bytes, "]}");
    offset += bytes;
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');

  std::string file;
  file.reserve(8 + header.size() + offset);
  AppendLittleEndian<uint64_t>(header.size(), &file);
  file += header;
  for (const SafetensorsEntry& entry : entries) file += entry.bytes;
  return file;
}

}  // namespace descant
