// Text of others, made fit for a terminal or for a protobuf string.
#ifndef DESCANT_SERVER_CLI_TEXT_H_
#define DESCANT_SERVER_CLI_TEXT_H_

#include <string>

#include "absl/strings/string_view.h"

namespace descant::cli {

// Without control characters other than newline and tab, so that no answer can
// send escape sequences to a terminal.
std::string TerminalText(absl::string_view text);

// With U+FFFD in place of whatever is not UTF-8: a protobuf string holds
// nothing else.
std::string ToValidUtf8(const std::string& text);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_TEXT_H_
