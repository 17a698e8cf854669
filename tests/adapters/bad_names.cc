// Rows 20 to 25.
#include "adapters/name.h"
#include "tests/adapters/bad_adapters.h"

namespace descant {

std::vector<BadAdapterCase> BadNames() {
  std::vector<BadAdapterCase> cases;
  const auto add = [&cases](int row, const std::string& what,
                            const std::string& name,
                            const std::string& expected =
                                "INVALID_ARGUMENT ADAPTER_NAME_INVALID") {
    cases.push_back(
        {row, what,
         [name] { return Outcome(ValidateAdapterName(name, "SmolLM2")); },
         expected});
  };
  add(20, "empty", "");
  add(20, "space", " ");
  add(20, "tab", "\t");
  add(20, "newline", "\n");
  add(20, "space at the end", "sql ");
  add(20, "newline at the end", "sql\n");
  for (const char* path : {"..",      ".",           "../etc",
                           "a/../b",  "/etc/passwd", "a/",
                           "a\\b",    "%2e%2e",      "a..b",
                           ".hidden", "-flag",       "_x",
                           "c:",      "a:b",         "~",
                           "a*",      "a?",          "$HOME",
                           "a;b",     "a@sha256",    "\\\\host\\share",
                           "a..",     "con/"}) {
    add(21, path, path);
  }
  add(22, "NUL inside", std::string("a\0b", 3));
  add(22, "NUL at the end", std::string("sql\0", 4));
  add(22, "bell", "a\ab");
  add(22, "delete", "a\x7f");
  add(22, "ANSI escape", "\x1b[31msql");
  add(22, "right-to-left override", "a\xe2\x80\xaegpj");
  add(22, "zero-width space", "sql\xe2\x80\x8b");
  add(22, "emoji", "\xf0\x9f\x98\x80");
  add(22, "accent", "caf\xc3\xa9");
  add(22, "Cyrillic look-alike",
      "\xd0\xb0"
      "dapter");
  add(22, "not UTF-8", "a\xff");
  add(24, "64 characters", std::string(64, 'a'));
  add(24, "63 characters", std::string(63, 'a'), "OK");
  add(24, "1 MiB", std::string(1 << 20, 'a'));
  for (const char* name :
       {"base", "none", "SmolLM2", "BASE", "None", "smollm2"}) {
    add(25, name, name, "INVALID_ARGUMENT ADAPTER_NAME_RESERVED");
  }
  add(25, "base2", "base2", "OK");
  return cases;
}

}  // namespace descant
