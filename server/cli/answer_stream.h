// Streaming an answer to the terminal, shared by `generate` and `chat`.
#ifndef DESCANT_SERVER_CLI_ANSWER_STREAM_H_
#define DESCANT_SERVER_CLI_ANSWER_STREAM_H_

#include <grpcpp/grpcpp.h>

#include <string>

#include "absl/strings/string_view.h"
#include "descant/v1/generation.pb.h"
#include "server/cli/connection.h"
#include "server/cli/generation_options.h"

namespace descant::cli {

// Appends a turn. Bytes that are no UTF-8 become U+FFFD: a protobuf string
// holds nothing else.
void AddMessage(absl::string_view role, const std::string& content,
                v1::ChatMessages* messages);

// Prints the text of an answer on standard output as it arrives, and a newline
// at its end. `answer`, where given, becomes the whole text.
grpc::Status StreamToTerminal(const Connection& connection,
                              const GenerationOptions& options,
                              const v1::GenerateRequest& request,
                              std::string* answer);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_ANSWER_STREAM_H_
