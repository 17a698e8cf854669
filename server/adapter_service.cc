#include "server/adapter_service.h"

#include <memory>
#include <string>

#include "adapters/error_reason.h"
#include "adapters/name.h"
#include "runtime/base/log.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"
#include "server/adapter_message.h"
#include "server/pooled_call.h"
#include "server/upload_call.h"
#include "server/upload_header.h"

namespace descant {
namespace {

// The entry that `adapter_id` names; a pinned version that the name does not
// stand for is as absent as an unknown name.
absl::StatusOr<RegistryEntry> FindEntry(const EdgeContext& edge,
                                        const std::string& tenant,
                                        const std::string& adapter_id,
                                        CallFacts* facts) {
  DESCANT_ASSIGN_OR_RETURN(const AdapterId id, ParseAdapterId(adapter_id));
  facts->adapter_id = adapter_id;
  DESCANT_ASSIGN_OR_RETURN(RegistryEntry entry,
                           edge.registry->Get(tenant, id.name));
  if (!id.digest.empty() && id.digest != entry.info.digest) {
    return ReasonedError(absl::StatusCode::kNotFound, reason::kAdapterNotFound,
                         "no adapter of this name and version");
  }
  return entry;
}

absl::Status DeleteOne(EdgeContext* edge, const std::string& tenant,
                       const v1::DeleteAdapterRequest& request,
                       v1::DeleteAdapterResponse* response, CallFacts* facts) {
  DESCANT_ASSIGN_OR_RETURN(
      const RegistryEntry entry,
      FindEntry(*edge, tenant, request.adapter_id(), facts));
  DESCANT_RETURN_IF_ERROR(edge->store->Delete(tenant, entry.info.name));
  const std::string label = AdapterLabel(tenant, entry.info.name);
  edge->metrics->ForgetAdapter(label);
  response->set_digest(entry.info.digest);
  LogInfo("adapter ", label, " deleted, ", entry.info.digest);
  return absl::OkStatus();
}

absl::Status ListPage(EdgeContext* edge, const std::string& tenant,
                      const v1::ListAdaptersRequest& request,
                      v1::ListAdaptersResponse* response) {
  DESCANT_ASSIGN_OR_RETURN(
      AdapterPage page,
      edge->registry->List(tenant, request.page_size(), request.page_token()));
  for (const RegistryEntry& entry : page.entries) {
    DescribeAdapter(*edge, entry, response->add_adapters());
  }
  response->set_next_page_token(page.next_page_token);
  response->set_total_size(
      static_cast<uint32_t>(edge->registry->UsageOf(tenant).adapters));
  return absl::OkStatus();
}

}  // namespace

grpc::ServerReadReactor<v1::UploadAdapterRequest>*
AdapterService::UploadAdapter(grpc::CallbackServerContext* context,
                              v1::UploadAdapterResponse* response) {
  const auto call = std::make_shared<UploadCall>(edge_, context, response);
  edge_->egress->Watch(std::weak_ptr<Egress::Call>(call));
  call->Begin();
  return call.get();
}

grpc::ServerUnaryReactor* AdapterService::QueryUpload(
    grpc::CallbackServerContext* context, const v1::QueryUploadRequest* request,
    v1::QueryUploadResponse* response) {
  return RunPooled(
      edge_, "QueryUpload", context,
      [edge = edge_, request, response](const std::string& tenant,
                                        CallFacts*) -> absl::Status {
        DESCANT_RETURN_IF_ERROR(
            ValidateUploadId(request->upload_id(), "upload_id"));
        // What was not finished by now is given up, but not unknown.
        DESCANT_RETURN_IF_ERROR(CheckAdmitting(*edge));
        DESCANT_ASSIGN_OR_RETURN(
            *response, edge->upload_table->Query(tenant, request->upload_id()));
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* AdapterService::GetAdapter(
    grpc::CallbackServerContext* context, const v1::GetAdapterRequest* request,
    v1::GetAdapterResponse* response) {
  return RunPooled(
      edge_, "GetAdapter", context,
      [edge = edge_, request, response](const std::string& tenant,
                                        CallFacts* facts) -> absl::Status {
        DESCANT_ASSIGN_OR_RETURN(
            const RegistryEntry entry,
            FindEntry(*edge, tenant, request->adapter_id(), facts));
        DescribeAdapter(*edge, entry, response->mutable_adapter());
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* AdapterService::ListAdapters(
    grpc::CallbackServerContext* context,
    const v1::ListAdaptersRequest* request,
    v1::ListAdaptersResponse* response) {
  return RunPooled(
      edge_, "ListAdapters", context,
      [edge = edge_, request, response](const std::string& tenant, CallFacts*) {
        return ListPage(edge, tenant, *request, response);
      });
}

grpc::ServerUnaryReactor* AdapterService::DeleteAdapter(
    grpc::CallbackServerContext* context,
    const v1::DeleteAdapterRequest* request,
    v1::DeleteAdapterResponse* response) {
  return RunPooled(edge_, "DeleteAdapter", context,
                   [edge = edge_, request, response](const std::string& tenant,
                                                     CallFacts* facts) {
                     return DeleteOne(edge, tenant, *request, response, facts);
                   });
}

}  // namespace descant
