#include "runtime/tokenizer/utf8_stream.h"

#include <utility>

#include "runtime/tokenizer/unicode.h"

namespace descant {
namespace {

constexpr absl::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD

}  // namespace

void Utf8Stream::Append(absl::string_view bytes, std::string* out) {
  std::string joined;
  if (!pending_.empty()) {
    joined = std::move(pending_);
    pending_.clear();
    joined.append(bytes.data(), bytes.size());
    bytes = joined;
  }
  while (!bytes.empty()) {
    const Utf8Step step = NextUtf8(bytes);
    if (step.kind == Utf8Step::kIncomplete) {
      pending_.assign(bytes.data(), bytes.size());
      return;
    }
    const absl::string_view emitted = step.kind == Utf8Step::kCharacter
                                          ? bytes.substr(0, step.length)
                                          : kReplacement;
    out->append(emitted.data(), emitted.size());
    bytes.remove_prefix(step.length);
  }
}

void Utf8Stream::Flush(std::string* out) {
  if (!pending_.empty()) out->append(kReplacement.data(), kReplacement.size());
  pending_.clear();
}

}  // namespace descant
