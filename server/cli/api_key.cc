#include "server/cli/api_key.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace descant::cli {
namespace {

constexpr size_t kMaxBytes = 4096;  // the server's limit

}  // namespace

absl::StatusOr<std::string> LoadApiKey(const std::string& path) {
  std::string key;
  std::string source = "DESCANT_API_KEY";
  if (path.empty()) {
    const char* variable = std::getenv("DESCANT_API_KEY");
    if (variable == nullptr) return std::string();
    key = variable;
  } else {
    source = absl::StrCat("--api-key-file: ", path);
    std::ifstream file(path, std::ios::binary);
    std::array<char, kMaxBytes + 64> buffer;
    file.read(buffer.data(), buffer.size());
    // A folder opens and can't be read.
    if (!file.is_open() || file.bad()) {
      return absl::NotFoundError(absl::StrCat(source, ": cannot be read"));
    }
    key.assign(buffer.data(), static_cast<size_t>(file.gcount()));
  }
  absl::StripAsciiWhitespace(&key);
  // Anything else would not travel in a header.
  const bool is_plain = std::all_of(key.begin(), key.end(), [](char c) {
    return absl::ascii_isgraph(static_cast<unsigned char>(c));
  });
  if (key.empty() || key.size() > kMaxBytes || !is_plain) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": must be one word of 1 to ", kMaxBytes,
                     " visible ASCII characters"));
  }
  return key;
}

}  // namespace descant::cli
