#include "runtime/base/log.h"

#include <memory>

#include "absl/strings/escaping.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"

namespace descant {
namespace {

spdlog::logger& JsonLogger() {
  // Never destroyed: threads may log while the process exits.
  static spdlog::logger* const logger = [] {
    auto* made = new spdlog::logger(
        "descant", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern(
        R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l","message":"%v"})",
        spdlog::pattern_time_type::utc);
    made->flush_on(spdlog::level::info);
    return made;
  }();
  return *logger;
}

std::string EscapeJson(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20) {
      constexpr char kHex[] = "0123456789abcdef";
      out += "\\u00";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

void Log(LogLevel level, absl::string_view message) {
  const std::string line = EscapeJson(message);
  switch (level) {
    case LogLevel::kInfo:
      JsonLogger().info(line);
      break;
    case LogLevel::kWarning:
      JsonLogger().warn(line);
      break;
    case LogLevel::kError:
      JsonLogger().error(line);
      break;
  }
}

std::string LogSafe(absl::string_view text) {
  constexpr size_t kMaxBytes = 128;
  std::string safe = absl::CHexEscape(text.substr(0, kMaxBytes));
  if (text.size() > kMaxBytes) safe += "...";
  return safe;
}

}  // namespace descant
