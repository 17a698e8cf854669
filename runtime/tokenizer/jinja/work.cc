#include "runtime/tokenizer/jinja/work.h"

#include "absl/strings/str_cat.h"
#include "runtime/base/reason.h"

namespace descant::jinja {

absl::Status RenderError(absl::string_view message) {
  return ReasonedError(absl::StatusCode::kInvalidArgument,
                       "CHAT_TEMPLATE_RENDER", message);
}

absl::Status NotServed(absl::string_view what) {
  return RenderError(absl::StrCat(
      "the chat template uses what this server does not render: ", what));
}

absl::Status Work::OutOfSteps() {
  return RenderError(absl::StrCat("the chat template needs more than ",
                                  kMaxSteps, " steps for this conversation"));
}

absl::Status Work::OutOfBytes() {
  return RenderError(absl::StrCat("the chat template works through more than ",
                                  kMaxWorkBytes,
                                  " bytes of text for this conversation"));
}

}  // namespace descant::jinja
