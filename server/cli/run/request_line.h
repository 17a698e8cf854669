// A line of `descant run`: one request as a JSON object.
#ifndef DESCANT_SERVER_CLI_RUN_REQUEST_LINE_H_
#define DESCANT_SERVER_CLI_RUN_REQUEST_LINE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "descant/v1/generation.pb.h"

namespace descant::cli {

struct RequestLine {
  std::string id;  // the line's own, echoed in its answer; may be empty
  v1::GenerateRequest request;
};

// Keys are the fields of descant.v1.GenerateRequest in proto3's JSON mapping;
// those of `sampling`, `stopping` and `output` may also stand at the top
// (`token_ids` there is the prompt). A message whose first field is a list may
// be written as that list:
//
//   {"id": "q1", "adapter_id": "pirate", "text": "Hello", "max_tokens": 8}
//   {"messages": [{"role": "user", "content": "Hi"}], "sampling": {"seed": 1}}
//   {"token_ids": [504, 3575], "temperature": 0, "output": {"logprobs": true}}
//
// `prompt` also means `text`, `adapter` also `adapter_id`. What the line leaves
// out comes from `defaults`. INVALID_ARGUMENT: no JSON, not an object, a key
// unknown or given twice, a value of the wrong type, no prompt.
absl::StatusOr<RequestLine> ParseRequestLine(
    absl::string_view line, const v1::GenerateRequest& defaults);

// 64 bits of the SHA-256 of the line, the defaults and the base model: the same
// where the same is asked again.
uint64_t InputDigest(absl::string_view line,
                     const v1::GenerateRequest& defaults,
                     absl::string_view base_fingerprint);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_RUN_REQUEST_LINE_H_
