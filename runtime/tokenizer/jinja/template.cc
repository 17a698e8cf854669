#include "runtime/tokenizer/jinja/template.h"

#include <algorithm>
#include <ctime>

#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/jinja/parser.h"

namespace descant::jinja {

absl::StatusOr<Template> Template::Parse(absl::string_view text) {
  DESCANT_ASSIGN_OR_RETURN(Ast ast, ParseTemplate(text));
  return Template(std::make_shared<const Ast>(std::move(ast)));
}

absl::StatusOr<std::string> Template::Render(
    absl::Span<const std::pair<std::string, Value>> variables,
    const TimeFormatter& time) const {
  Interpreter interpreter(ast_.get(), &time);
  for (const auto& [name, value] : variables) {
    interpreter.SetVariable(name, value);
  }
  return interpreter.Render();
}

bool Template::Mentions(absl::string_view name) const {
  return std::any_of(
      ast_->symbols.begin(), ast_->symbols.end(),
      [name](const NamePtr& symbol) { return symbol->text == name; });
}

std::string FormatLocalTime(absl::string_view format) {
  const std::time_t now = std::time(nullptr);
  std::tm local = {};
  localtime_r(&now, &local);
  // 0 is an empty result as well as one that does not fit: one byte of text
  // tells them apart.
  const std::string padded = std::string(format) + ".";
  std::string buffer(64 * (padded.size() + 1), '\0');
  buffer.resize(
      std::strftime(buffer.data(), buffer.size(), padded.c_str(), &local));
  if (!buffer.empty()) buffer.pop_back();
  return buffer;
}

}  // namespace descant::jinja
