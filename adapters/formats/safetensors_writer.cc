#include "adapters/formats/safetensors_writer.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "adapters/formats/json.h"
#include "runtime/base/check.h"
#include "runtime/base/little_endian.h"

namespace descant {

std::string SafetensorsHeader(absl::Span<const SafetensorsSpec> specs,
                              const SafetensorsMetadata& metadata) {
  std::vector<std::string> members;
  if (!metadata.empty()) {
    const auto quote = [](std::string* out, const auto& entry) {
      absl::StrAppend(out, JsonQuote(entry.first), ":",
                      JsonQuote(entry.second));
    };
    members.push_back(absl::StrCat("\"__metadata__\":{",
                                   absl::StrJoin(metadata, ",", quote), "}"));
  }
  uint64_t offset = 0;
  for (const SafetensorsSpec& spec : specs) {
    members.push_back(absl::StrCat(
        JsonQuote(spec.name), ":{\"dtype\":\"", spec.dtype, "\",\"shape\":[",
        absl::StrJoin(spec.shape, ","), "],\"data_offsets\":[", offset, ",",
        offset + spec.bytes, "]}"));
    offset += spec.bytes;
  }
  std::string json = absl::StrCat("{", absl::StrJoin(members, ","), "}");
  json.resize((json.size() + 7) / 8 * 8, ' ');
  std::string header;
  AppendLittleEndian<uint64_t>(json.size(), &header);
  return header + json;
}

std::string WriteSafetensors(std::vector<SafetensorsEntry> entries) {
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  std::vector<SafetensorsSpec> specs;
  uint64_t total = 0;
  for (const SafetensorsEntry& entry : entries) {
    uint64_t bytes = static_cast<uint64_t>(DtypeBytes(entry.dtype));
    for (const uint64_t dim : entry.shape) bytes *= dim;
    DESCANT_CHECK(bytes == entry.bytes.size());
    specs.push_back(
        {entry.name, std::string(DtypeName(entry.dtype)), entry.shape, bytes});
    total += bytes;
  }
  std::string file = SafetensorsHeader(specs, {});
  file.reserve(file.size() + total);
  for (const SafetensorsEntry& entry : entries) file += entry.bytes;
  return file;
}

}  // namespace descant
