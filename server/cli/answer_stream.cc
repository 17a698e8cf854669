#include "server/cli/answer_stream.h"

#include <unistd.h>

#include <cstdio>
#include <memory>

#include "server/cli/text.h"

namespace descant::cli {

void AddMessage(absl::string_view role, const std::string& content,
                v1::ChatMessages* messages) {
  v1::ChatMessage* message = messages->add_messages();
  message->set_role(std::string(role));
  message->set_content(ToValidUtf8(content));
}

grpc::Status StreamToTerminal(const Connection& connection,
                              const GenerationOptions& options,
                              const v1::GenerateRequest& request,
                              std::string* answer) {
  v1::GenerateStreamRequest stream_request;
  *stream_request.mutable_request() = request;
  grpc::ClientContext context;
  SetDeadline(options, &context);
  auto reader = connection.generation->GenerateStream(&context, stream_request);
  // Into a pipe or a file the text goes as it is.
  const bool terminal = isatty(STDOUT_FILENO) == 1;
  bool any = false;
  v1::GenerateStreamResponse response;
  while (reader->Read(&response)) {
    const std::string& text = response.delta().text();
    any = true;
    if (answer != nullptr) answer->append(text);
    std::fputs((terminal ? TerminalText(text) : text).c_str(), stdout);
    std::fflush(stdout);
  }
  const grpc::Status status = reader->Finish();
  if (any) std::fputc('\n', stdout);
  std::fflush(stdout);
  return status;
}

}  // namespace descant::cli
