#include "server/cli/text.h"

#include <nlohmann/json.hpp>

namespace descant::cli {

std::string TerminalText(absl::string_view text) {
  std::string result;
  for (const char byte : text) {
    const auto value = static_cast<unsigned char>(byte);
    const bool control = value < 0x20 || value == 0x7f;
    if (!control || byte == '\n' || byte == '\t') result += byte;
  }
  return result;
}

std::string ToValidUtf8(const std::string& text) {
  using Json = nlohmann::json;
  const std::string quoted =
      Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
  return Json::parse(quoted).get<std::string>();
}

}  // namespace descant::cli
