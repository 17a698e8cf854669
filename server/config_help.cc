// What --help and the page of the configuration say.
#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "server/config.h"
#include "server/config_options.h"

namespace descant {

namespace {

// Rows of a table; `dashes` before each name.
void AddTableRows(const std::vector<ConfigOption>& options,
                  absl::string_view dashes, std::string* text) {
  for (const ConfigOption& option : options) {
    absl::StrAppend(text, "| `", dashes, option.name, "` | ",
                    option.value.empty() ? "switch" : option.value, " | ",
                    option.help, " |\n");
  }
}

}  // namespace

std::string OptionsHelp() {
  static constexpr size_t kColumn = 31;
  static constexpr size_t kWidth = 79;
  std::string text;
  const auto add = [&text](const std::string& left, absl::string_view help) {
    std::string line = absl::StrCat("  ", left);
    line.resize(std::max(kColumn, line.size() + 1), ' ');
    std::istringstream words{std::string(help)};
    for (std::string word; words >> word;) {
      if (line.size() + word.size() > kWidth) {
        absl::StrAppend(&text, absl::StripTrailingAsciiWhitespace(line), "\n");
        line.assign(kColumn, ' ');
      }
      absl::StrAppend(&line, word, " ");
    }
    absl::StrAppend(&text, absl::StripTrailingAsciiWhitespace(line), "\n");
  };
  add("--config=PATH",
      "YAML file with the same names as the flags below, for instance "
      "\"token-budget: 512\". Flags win over the file.");
  for (const ConfigOption& option : ConfigOptions()) {
    add(absl::StrCat("--", option.name, option.value.empty() ? "" : "=",
                     option.value),
        option.help);
  }
  add("--verify-store",
      "Read all of --adapter-dir, compare it with its digests, say what is "
      "damaged, change nothing, and exit: 0 where all is well, 70 where not.");
  add("--self-test",
      "Compare each kernel of --device, and each layer of --model on it, with "
      "the reference, print the errors, and exit: 0 where all are within their "
      "bounds, 70 where not.");
  for (const ConfigOption& option : CommandOptions()) {
    add(absl::StrCat("--", option.name, "=", option.value), option.help);
  }
  add("--make-key",
      "Print a new API key and its entry for the tenants file, and exit.");
  add("--version", "Print the version and exit.");
  add("--help", "Print this text and exit.");
  add("--help-markdown", "The same as the page server/CONFIGURATION.md.");
  return text;
}

std::string OptionsMarkdown() {
  std::string text =
      "# Configuration of descant-server\n"
      "\n"
      "Made by `descant-server --help-markdown`; a test fails when it is "
      "stale.\n"
      "\n"
      "Every option is a flag, `--name=value`, and a key of the YAML file "
      "given "
      "by\n"
      "`--config=PATH`, `name: value`. A flag wins over the file, the file "
      "over "
      "the\n"
      "default. An unknown or repeated name and a value that is not allowed "
      "end "
      "the\n"
      "server before it starts, with one line and exit code 78. Switches are "
      "`--name`\n"
      "or `name: true`.\n"
      "\n"
      "| option | value | meaning |\n"
      "| --- | --- | --- |\n";
  AddTableRows(ConfigOptions(), "", &text);
  absl::StrAppend(
      &text,
      "\n"
      "Sizes are `512MiB`, `2GiB` or bytes; times `500ms`, `30s`, `10m`, "
      "`2h`.\n"
      "`--version`, `--help` and `--help-markdown` print and exit. "
      "`--verify-store` reads\n"
      "all of `adapter-dir`, compares it with its digests and exits: 0, or 70 "
      "where\n"
      "something is damaged. `--self-test` prints how far each kernel of the "
      "device and\n"
      "each layer of the model on it is from the reference, and exits: 0, or "
      "70 "
      "where one\n"
      "is out of its bound (`runtime/model/README.md`). `--export-merged=NAME "
      "--out=DIR`\n"
      "writes the model with an adapter merged into it as a Hugging Face "
      "checkpoint and\n"
      "exits (`runtime/model/EXPORT.md`); these flags are no keys of the YAML "
      "file:\n"
      "\n"
      "| flag | value | meaning |\n"
      "| --- | --- | --- |\n");
  AddTableRows(CommandOptions(), "--", &text);
  absl::StrAppend(
      &text,
      "\n"
      "Limits that are not options are in `server/limits.h`. The environment "
      "variable\n"
      "`DESCANT_CPU_ISA` (avx2, avx512, amx) forces a lower instruction set "
      "than the\n"
      "machine has.\n");
  return text;
}

}  // namespace descant
