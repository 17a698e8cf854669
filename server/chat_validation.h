// Conversations of a request: checked, then rendered to a prompt.
#ifndef DESCANT_SERVER_CHAT_VALIDATION_H_
#define DESCANT_SERVER_CHAT_VALIDATION_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "descant/v1/common.pb.h"
#include "runtime/tokenizer/chat_template.h"
#include "server/request_validation.h"

namespace descant {

// A text of a client: at most `max_bytes`, UTF-8, without NUL.
absl::Status ValidateText(absl::string_view text, absl::string_view field,
                          uint64_t max_bytes);

// The prompt of a conversation. INVALID_ARGUMENT naming the field, or with the
// template's own words; FAILED_PRECONDITION CHAT_TEMPLATE where `chat` is
// null. At most max_prompt_bytes go in and come out. Takes up to a second for
// a hostile conversation: not for RPC threads.
absl::StatusOr<std::string> RenderMessages(const v1::ChatMessages& messages,
                                           const ChatTemplate* chat,
                                           const ModelLimits& limits);

}  // namespace descant

#endif  // DESCANT_SERVER_CHAT_VALIDATION_H_
