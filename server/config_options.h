// The table of options behind flags, YAML keys and --help.
#ifndef DESCANT_SERVER_CONFIG_OPTIONS_H_
#define DESCANT_SERVER_CONFIG_OPTIONS_H_

#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/config.h"

namespace descant {

// One option: a flag and a YAML key.
struct ConfigOption {
  absl::string_view name;
  absl::string_view value;  // for --help; empty: a switch
  absl::string_view help;
  std::function<absl::Status(absl::string_view, ServerConfig*)> set;
};

// In the order of --help.
const std::vector<ConfigOption>& ConfigOptions();

// Flags with values that ask for something else than serving: they are no YAML
// keys.
const std::vector<ConfigOption>& CommandOptions();

}  // namespace descant

#endif  // DESCANT_SERVER_CONFIG_OPTIONS_H_
