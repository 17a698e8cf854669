#include "tests/server/foreign_object_calls.h"

#include <memory>
#include <set>

#include "absl/strings/str_cat.h"
#include "tests/server/upload_stream.h"

namespace descant {
namespace {

Answer AnswerOf(const grpc::Status& status, const grpc::ClientContext& context,
                const std::string& messages = "") {
  std::set<std::string> metadata;
  for (const auto* map : {&context.GetServerInitialMetadata(),
                          &context.GetServerTrailingMetadata()}) {
    for (const auto& [key, value] : *map) {
      metadata.insert(absl::StrCat(std::string(key.data(), key.size()), "=",
                                   std::string(value.data(), value.size())));
    }
  }
  Answer answer{status.error_code(),
                absl::StrCat(status.error_code(), "\n", status.error_message(),
                             "\n", status.error_details(), "\n", messages)};
  for (const std::string& entry : metadata) {
    absl::StrAppend(&answer.bytes, "\n", entry);
  }
  return answer;
}

// Reads a stream to its end.
template <typename Reader, typename Message>
grpc::Status ReadAll(Reader* reader, Message* message) {
  while (reader->Read(message)) {
  }
  return reader->Finish();
}

v1::GenerateRequest GenerateRequestFor(const std::string& id) {
  v1::GenerateRequest request;
  request.mutable_token_ids()->add_ids(5);
  request.set_adapter_id(id);
  request.mutable_stopping()->set_max_tokens(1);
  return request;
}

// One call about the object; its key is the server's.
using Call = std::function<Answer(TestServer*, const std::string& id)>;

template <typename Request, typename Response, typename Stub>
Call Unary(Stub& (TestServer::*stub)(),
           grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                        Response*),
           const std::function<void(const std::string&, Request*)>& fill) {
  return [=](TestServer* server, const std::string& id) {
    grpc::ClientContext context;
    server->AddKey(&context);
    Request request;
    fill(id, &request);
    Response response;
    const grpc::Status status =
        ((server->*stub)().*method)(&context, request, &response);
    return AnswerOf(status, context);
  };
}

template <typename Request>
void SetAdapterId(const std::string& id, Request* request) {
  request->set_adapter_id(id);
}

Answer GenerateStreamed(TestServer* server, const std::string& id) {
  grpc::ClientContext context;
  server->AddKey(&context);
  v1::GenerateStreamRequest request;
  *request.mutable_request() = GenerateRequestFor(id);
  v1::GenerateStreamResponse message;
  const auto reader = server->generation().GenerateStream(&context, request);
  const grpc::Status status = ReadAll(reader.get(), &message);
  return AnswerOf(status, context);
}

Answer Downloaded(TestServer* server, const std::string& id) {
  grpc::ClientContext context;
  server->AddKey(&context);
  v1::DownloadAdapterRequest request;
  request.set_adapter_id(id);
  v1::DownloadAdapterResponse message;
  const auto reader = server->adapters().DownloadAdapter(&context, request);
  const grpc::Status status = ReadAll(reader.get(), &message);
  return AnswerOf(status, context);
}

// What there is under the name; a watch that is let in is then given up.
Answer Watched(TestServer* server, const std::string& name) {
  grpc::ClientContext context;
  server->AddKey(&context);
  v1::WatchAdaptersRequest request;
  request.set_name(name);
  const auto reader = server->adapters().WatchAdapters(&context, request);
  v1::WatchAdaptersResponse message;
  std::string events;
  while (reader->Read(&message)) {
    absl::StrAppend(&events, message.event(), " ", message.adapter().name(),
                    " ");
    if (message.event() == v1::ADAPTER_EVENT_SYNCED) context.TryCancel();
  }
  return AnswerOf(reader->Finish(), context, events);
}

// An upload that changes nothing, so that it may be made again.
Answer UploadChecked(TestServer* server, const std::string& name) {
  UploadPlan plan = server->PlanUpload("x", 1);
  plan.header()->set_name(name);
  plan.header()->set_validate_only(true);
  grpc::ClientContext context;
  server->AddKey(&context);
  v1::UploadAdapterResponse response;
  const auto writer = server->adapters().UploadAdapter(&context, &response);
  for (const v1::UploadAdapterRequest& message : plan.messages) {
    if (!writer->Write(message)) break;
  }
  writer->WritesDone();
  const grpc::Status status = writer->Finish();
  response.mutable_adapter()->clear_create_time();
  return AnswerOf(status, context,
                  status.ok() ? response.SerializeAsString() : "");
}

Answer UploadResumed(TestServer* server, const std::string& upload_id) {
  v1::UploadAdapterHeader header = *server->PlanUpload("x", 1).header();
  header.set_upload_id(upload_id);
  header.set_offset(100);
  grpc::ClientContext context;
  server->AddKey(&context);
  v1::UploadAdapterResponse response;
  const auto writer = server->adapters().UploadAdapter(&context, &response);
  v1::UploadAdapterRequest message;
  *message.mutable_header() = header;
  writer->Write(message);
  writer->WritesDone();
  const grpc::Status status = writer->Finish();
  return AnswerOf(status, context);
}

}  // namespace

std::vector<MatrixRow> MatrixRows() {
  using Generation = v1::GenerationService::Stub;
  using Adapters = v1::AdapterService::Stub;
  const auto adapters = &TestServer::adapters;
  return {
      {"Tokenize", Names::kNothing, nullptr},
      {"Detokenize", Names::kNothing, nullptr},
      {"GetModel", Names::kNothing, nullptr},
      {"ListAdapters", Names::kNothing, nullptr},
      {"Generate", Names::kUsed,
       Unary<v1::GenerateRequest, v1::GenerateResponse>(
           &TestServer::generation, &Generation::Generate,
           [](const std::string& id, v1::GenerateRequest* request) {
             *request = GenerateRequestFor(id);
           })},
      {"GenerateStream", Names::kUsed, GenerateStreamed},
      {"GetAdapter", Names::kUsed,
       Unary<v1::GetAdapterRequest, v1::GetAdapterResponse>(
           adapters, &Adapters::GetAdapter,
           SetAdapterId<v1::GetAdapterRequest>)},
      {"WatchAdapters", Names::kNew, Watched},
      {"UploadAdapter", Names::kNew, UploadChecked},
      {"UploadAdapter", Names::kUpload, UploadResumed},
      {"QueryUpload", Names::kUpload,
       Unary<v1::QueryUploadRequest, v1::QueryUploadResponse>(
           adapters, &Adapters::QueryUpload,
           [](const std::string& id, v1::QueryUploadRequest* request) {
             request->set_upload_id(id);
           })},
      {"DownloadAdapter", Names::kOwn, Downloaded},
      {"ShareAdapter", Names::kOwn,
       Unary<v1::ShareAdapterRequest, v1::ShareAdapterResponse>(
           adapters, &Adapters::ShareAdapter,
           [](const std::string& id, v1::ShareAdapterRequest* request) {
             request->set_adapter_id(id);
             request->mutable_sharing()->set_all_tenants(true);
           })},
      {"RollbackAdapter", Names::kOwn,
       Unary<v1::RollbackAdapterRequest, v1::RollbackAdapterResponse>(
           adapters, &Adapters::RollbackAdapter,
           SetAdapterId<v1::RollbackAdapterRequest>)},
      {"DeleteAdapter", Names::kOwn,
       Unary<v1::DeleteAdapterRequest, v1::DeleteAdapterResponse>(
           adapters, &Adapters::DeleteAdapter,
           SetAdapterId<v1::DeleteAdapterRequest>)},
  };
}

}  // namespace descant
