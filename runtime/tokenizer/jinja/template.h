// A Jinja template, rendered as jinja2's ImmutableSandboxedEnvironment does
// with the settings of Transformers' apply_chat_template: trim_blocks,
// lstrip_blocks, loop controls, `tojson` without HTML escapes,
// raise_exception, strftime_now and the `generation` tag. README.md lists what
// is rendered.
#ifndef DESCANT_RUNTIME_TOKENIZER_JINJA_TEMPLATE_H_
#define DESCANT_RUNTIME_TOKENIZER_JINJA_TEMPLATE_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "runtime/tokenizer/jinja/interpreter.h"
#include "runtime/tokenizer/jinja/value.h"

namespace descant::jinja {

// Immutable; thread-safe; cheap to copy.
class Template {
 public:
  // FAILED_PRECONDITION, reason CHAT_TEMPLATE, naming line and construct: bad
  // syntax, what is not rendered, or a limit of limits.h.
  static absl::StatusOr<Template> Parse(absl::string_view text);

  // INVALID_ARGUMENT, reason CHAT_TEMPLATE_RENDER: raise_exception (its text
  // is the message), what is an error in jinja2 too, or a limit of limits.h.
  // Bounded in time (about a second at worst) and memory by those limits.
  absl::StatusOr<std::string> Render(
      absl::Span<const std::pair<std::string, Value>> variables,
      const TimeFormatter& time) const;

  // Whether the template speaks of a variable of this name.
  bool Mentions(absl::string_view name) const;

 private:
  explicit Template(std::shared_ptr<const Ast> ast) : ast_(std::move(ast)) {}

  std::shared_ptr<const Ast> ast_;
};

// The local time by the C library's strftime.
std::string FormatLocalTime(absl::string_view format);

}  // namespace descant::jinja

#endif  // DESCANT_RUNTIME_TOKENIZER_JINJA_TEMPLATE_H_
