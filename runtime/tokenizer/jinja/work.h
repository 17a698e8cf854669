// The budget of one render. Every operation that takes time or memory in
// proportion to its input asks here first.
#ifndef DESCANT_RUNTIME_TOKENIZER_JINJA_WORK_H_
#define DESCANT_RUNTIME_TOKENIZER_JINJA_WORK_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/jinja/limits.h"

namespace descant::jinja {

// A render that a template ended (raise_exception), that went wrong as it
// would in jinja2, or that a limit ended: INVALID_ARGUMENT, reason
// CHAT_TEMPLATE_RENDER.
absl::Status RenderError(absl::string_view message);
// jinja2 could; this code can't. The same code and reason.
absl::Status NotServed(absl::string_view what);

// Not thread-safe.
class Work {
 public:
  absl::Status Steps(int64_t count) {
    steps_left_ -= count;
    return steps_left_ >= 0 ? absl::OkStatus() : OutOfSteps();
  }
  absl::Status Bytes(size_t count) {
    if (count > static_cast<size_t>(bytes_left_)) return OutOfBytes();
    bytes_left_ -= static_cast<int64_t>(count);
    return absl::OkStatus();
  }
  int64_t steps_used() const { return kMaxSteps - steps_left_; }

 private:
  static absl::Status OutOfSteps();
  static absl::Status OutOfBytes();

  int64_t steps_left_ = kMaxSteps;
  int64_t bytes_left_ = kMaxWorkBytes;
};

}  // namespace descant::jinja

#endif  // DESCANT_RUNTIME_TOKENIZER_JINJA_WORK_H_
