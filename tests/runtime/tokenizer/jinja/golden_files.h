// The stored files of tests/golden, and the clock they were made with.
#ifndef DESCANT_TESTS_RUNTIME_TOKENIZER_JINJA_GOLDEN_FILES_H_
#define DESCANT_TESTS_RUNTIME_TOKENIZER_JINJA_GOLDEN_FILES_H_

#include <cstdlib>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/string_view.h"

namespace descant {

// Keeps the order of members, as Python does.
inline nlohmann::ordered_json ReadGolden(const std::string& name) {
  const char* root = std::getenv("DESCANT_SOURCE_DIR");
  std::ifstream file(std::string(root != nullptr ? root : ".") +
                     "/tests/golden/data/" + name);
  return nlohmann::ordered_json::parse(file);
}

// 2026-11-23 12:34:56, a Monday.
inline std::string StillClock(absl::string_view format) {
  std::tm time = {};
  time.tm_year = 126;
  time.tm_mon = 10;
  time.tm_mday = 23;
  time.tm_hour = 12;
  time.tm_min = 34;
  time.tm_sec = 56;
  time.tm_wday = 1;
  time.tm_yday = 326;
  char buffer[256];
  const size_t size =
      std::strftime(buffer, sizeof(buffer), std::string(format).c_str(), &time);
  return std::string(buffer, size);
}

}  // namespace descant

#endif  // DESCANT_TESTS_RUNTIME_TOKENIZER_JINJA_GOLDEN_FILES_H_
