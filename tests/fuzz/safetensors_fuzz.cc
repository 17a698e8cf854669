// Hostile safetensors files. The first byte picks: a whole file as it is, or a
// header whose length is put right (so that mutations reach its rules), with
// the second byte as the data's length in units of 8.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "adapters/formats/safetensors.h"
#include "adapters/validate.h"
#include "runtime/base/check.h"
#include "runtime/base/little_endian.h"

namespace descant {
namespace {

constexpr char kConfig[] =
    R"({"r":1,"target_modules":["model.layers.0.self_attn.q_proj"]})";

const BaseShape& Base() {
  static const auto* base = new BaseShape{
      {{"model.layers.0.self_attn.q_proj", 2, 2, 0, LinearKind::kQ}}, "f"};
  return *base;
}

// The format's promise: disjoint ranges that cover the data exactly.
void CheckIndex(const SafetensorsIndex& index, size_t file_size) {
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (const SafetensorsTensor& tensor : index.tensors) {
    ranges.emplace_back(tensor.begin, tensor.end);
    DESCANT_CHECK(index.Find(tensor.name) == &tensor);
  }
  std::sort(ranges.begin(), ranges.end());
  uint64_t at = index.data_begin;
  for (const auto& [begin, end] : ranges) {
    DESCANT_CHECK(begin == at && end >= begin);
    at = end;
  }
  DESCANT_CHECK(at == file_size);
}

void FuzzFile(absl::Span<const char> file) {
  for (const SafetensorsLimits& limits :
       {SafetensorsLimits(), SafetensorsLimits::BaseModel()}) {
    const auto index = ParseSafetensors(file, limits);
    if (index.ok()) CheckIndex(*index, file.size());
  }
  const auto validator =
      AdapterValidator::Create(kConfig, file.size(), &Base(), {});
  if (!validator.ok()) return;
  bool accepted = true;
  const size_t piece = std::max<size_t>(5, file.size() / 16);
  for (size_t at = 0; at < file.size() && accepted; at += piece) {
    accepted = (*validator)->Append(file.subspan(at, piece)).ok();
  }
  const auto validated = (*validator)->Finish();
  DESCANT_CHECK(accepted || !validated.ok());
  const auto made = MakeAdapter("", "a", kConfig, file, Base(), {});
  DESCANT_CHECK(made.ok() == validated.ok());
  if (made.ok()) DESCANT_CHECK((*made)->digest == validated->digest);
}

}  // namespace
}  // namespace descant

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const char* text = reinterpret_cast<const char*>(data);
  if (data[0] == 'f') {
    descant::FuzzFile(absl::MakeConstSpan(text + 1, size - 1));
    return 0;
  }
  std::string file;
  descant::AppendLittleEndian<uint64_t>(size - 2, &file);
  file.append(text + 2, size - 2);
  file.append(size_t{8} * (data[1] & 15u), '\0');
  descant::FuzzFile(file);
  return 0;
}
