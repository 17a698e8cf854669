#include "runtime/model/hf_files.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "adapters/formats/json.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

constexpr JsonLimits kIndexLimits = {64 << 20, 8, 1 << 20};

}  // namespace

std::string PathIn(const std::string& directory, absl::string_view name) {
  return absl::StrCat(directory, absl::EndsWith(directory, "/") ? "" : "/",
                      name);
}

bool PathExists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

absl::StatusOr<std::string> ReadTextFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": can't be read"));
  return std::string(std::istreambuf_iterator<char>(file), {});
}

absl::StatusOr<std::vector<std::string>> HuggingFaceWeightFiles(
    const std::string& directory) {
  const std::string single = PathIn(directory, "model.safetensors");
  if (PathExists(single)) return std::vector<std::string>{single};
  const std::string index = PathIn(directory, "model.safetensors.index.json");
  if (!PathExists(index)) {
    return absl::NotFoundError(absl::StrCat(directory,
                                            ": no model.safetensors and no "
                                            "model.safetensors.index.json"));
  }
  DESCANT_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(index));
  const absl::StatusOr<JsonValue> root = ParseJson(text, kIndexLimits);
  if (!root.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(index, ": ", root.status().message()));
  }
  const JsonValue* map =
      root->kind() == JsonValue::kObject ? root->Find("weight_map") : nullptr;
  if (map == nullptr || map->kind() != JsonValue::kObject) {
    return absl::InvalidArgumentError(
        absl::StrCat(index, ": weight_map must be an object"));
  }
  std::vector<std::string> files;
  for (const JsonValue::Member& member : map->object()) {
    const JsonValue& file = member.second;
    if (file.kind() != JsonValue::kString ||
        absl::StrContains(file.string(), "/") ||
        !absl::EndsWith(file.string(), ".safetensors")) {
      return absl::InvalidArgumentError(absl::StrCat(
          index, ": weight_map must name safetensors files beside it"));
    }
    files.push_back(PathIn(directory, file.string()));
  }
  std::sort(files.begin(), files.end());
  files.erase(std::unique(files.begin(), files.end()), files.end());
  return files;
}

}  // namespace descant
