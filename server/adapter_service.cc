#include "server/adapter_service.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "adapters/error_reason.h"
#include "adapters/name.h"
#include "adapters/sharing.h"
#include "runtime/base/log.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"
#include "server/adapter_message.h"
#include "server/adapter_reference.h"
#include "server/download_call.h"
#include "server/pooled_call.h"
#include "server/upload_call.h"
#include "server/upload_header.h"
#include "server/watch_call.h"

namespace descant {
namespace {

// What a caller sees of its own, and of those that are shared with it.
void Describe(const EdgeContext& edge, const std::string& tenant,
              const RegistryEntry& entry, v1::Adapter* message) {
  if (entry.info.tenant == tenant) {
    DescribeOwnAdapter(edge, entry, message);
  } else {
    DescribeSharedAdapter(edge, entry, message);
  }
}

absl::Status GetOne(EdgeContext* edge, const std::string& tenant,
                    const v1::GetAdapterRequest& request,
                    v1::GetAdapterResponse* response, CallFacts* facts) {
  DESCANT_ASSIGN_OR_RETURN(const AdapterId id,
                           ParseUsedAdapter(*edge, request.adapter_id()));
  facts->adapter_id = request.adapter_id();
  DESCANT_ASSIGN_OR_RETURN(const RegistryEntry entry,
                           edge->registry->Find(tenant, id));
  Describe(*edge, tenant, entry, response->mutable_adapter());
  // The name may have gone in between.
  DESCANT_ASSIGN_OR_RETURN(
      const std::vector<RegistryEntry> versions,
      edge->registry->Versions(entry.info.tenant, entry.info.name));
  for (const RegistryEntry& version : versions) {
    Describe(*edge, tenant, version, response->add_versions());
  }
  return absl::OkStatus();
}

// A pinned version is deleted, with its name, only while it is the current one.
absl::Status DeleteOne(EdgeContext* edge, const std::string& tenant,
                       const v1::DeleteAdapterRequest& request,
                       v1::DeleteAdapterResponse* response, CallFacts* facts) {
  DESCANT_ASSIGN_OR_RETURN(
      const AdapterId id,
      ParseOwnAdapter(*edge, tenant, request.adapter_id(), facts));
  AdapterInfo info;
  absl::Status deleted;
  do {
    DESCANT_ASSIGN_OR_RETURN(const RegistryEntry entry,
                             edge->registry->Find(tenant, id));
    info = entry.info;
    deleted = edge->store->Delete(tenant, info.name, info.version);
    // Replaced in between: what goes is what the answer says, so once more.
  } while (absl::IsAborted(deleted) && id.digest.empty());
  DESCANT_RETURN_IF_ERROR(deleted);
  const std::string label = AdapterLabel(tenant, info.name);
  edge->metrics->ForgetAdapter(label);
  response->set_digest(info.digest);
  facts->digest = info.digest;
  LogInfo("adapter ", label, " deleted, ", info.digest);
  return absl::OkStatus();
}

absl::Status RollBackOne(EdgeContext* edge, const std::string& tenant,
                         const v1::RollbackAdapterRequest& request,
                         v1::RollbackAdapterResponse* response,
                         CallFacts* facts) {
  DESCANT_ASSIGN_OR_RETURN(
      const AdapterId id,
      ParseOwnAdapter(*edge, tenant, request.adapter_id(), facts));
  std::optional<uint64_t> expected;
  if (request.has_expected_version()) expected = request.expected_version();
  DESCANT_ASSIGN_OR_RETURN(const PublishResult result,
                           edge->store->Rollback(tenant, id, expected));
  auto entry = edge->registry->Get(tenant, id.name);
  if (!entry.ok() || entry->info.version != result.info.version) {
    entry = RegistryEntry{.info = result.info};
  }
  DescribeOwnAdapter(*edge, *entry, response->mutable_adapter());
  facts->digest = result.info.digest;
  LogInfo("adapter ", AdapterLabel(tenant, id.name), " rolled back to ",
          result.info.digest);
  return absl::OkStatus();
}

absl::Status ListPage(EdgeContext* edge, const std::string& tenant,
                      const v1::ListAdaptersRequest& request,
                      v1::ListAdaptersResponse* response) {
  DESCANT_ASSIGN_OR_RETURN(
      const AdapterPage page,
      request.shared_with_me()
          ? edge->registry->ListShared(tenant, request.page_size(),
                                       request.page_token())
          : edge->registry->List(tenant, request.page_size(),
                                 request.page_token()));
  for (const RegistryEntry& entry : page.entries) {
    Describe(*edge, tenant, entry, response->add_adapters());
  }
  response->set_next_page_token(page.next_page_token);
  response->set_total_size(static_cast<uint32_t>(page.total));
  return absl::OkStatus();
}

std::string SharedWith(const AdapterSharing& sharing) {
  if (sharing.all_tenants) return "all tenants";
  return absl::StrCat(sharing.tenants.size(), " tenants");
}

absl::Status ShareOne(EdgeContext* edge, const std::string& tenant,
                      const v1::ShareAdapterRequest& request,
                      v1::ShareAdapterResponse* response, CallFacts* facts) {
  if (edge->tenants == nullptr) {
    return ReasonedError(absl::StatusCode::kFailedPrecondition,
                         reason::kTenantsOff,
                         "without tenants there is nobody to share with");
  }
  DESCANT_ASSIGN_OR_RETURN(
      const AdapterId id,
      ParseOwnAdapter(*edge, tenant, request.adapter_id(), facts));
  if (!id.digest.empty()) {
    return FieldError("adapter_id", "must be a name alone: all its versions");
  }
  const v1::Sharing& asked = request.sharing();
  DESCANT_ASSIGN_OR_RETURN(
      const AdapterSharing sharing,
      MakeSharing(tenant, {asked.tenants().begin(), asked.tenants().end()},
                  asked.all_tenants()));
  DESCANT_ASSIGN_OR_RETURN(const RegistryEntry entry,
                           edge->store->Share(tenant, id.name, sharing));
  DescribeAdapter(*edge, entry, response->mutable_adapter());
  if (!sharing.nobody()) {
    FillSharing(sharing, response->mutable_adapter()->mutable_sharing());
  }
  LogInfo("adapter ", AdapterLabel(tenant, id.name), " is shared with ",
          SharedWith(sharing));
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
      edge_, "QueryUpload", context, request->SpaceUsedLong(),
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
  return RunPooled(edge_, "GetAdapter", context, request->SpaceUsedLong(),
                   [edge = edge_, request, response](const std::string& tenant,
                                                     CallFacts* facts) {
                     return GetOne(edge, tenant, *request, response, facts);
                   });
}

grpc::ServerUnaryReactor* AdapterService::ListAdapters(
    grpc::CallbackServerContext* context,
    const v1::ListAdaptersRequest* request,
    v1::ListAdaptersResponse* response) {
  return RunPooled(
      edge_, "ListAdapters", context, request->SpaceUsedLong(),
      [edge = edge_, request, response](const std::string& tenant, CallFacts*) {
        return ListPage(edge, tenant, *request, response);
      });
}

grpc::ServerUnaryReactor* AdapterService::DeleteAdapter(
    grpc::CallbackServerContext* context,
    const v1::DeleteAdapterRequest* request,
    v1::DeleteAdapterResponse* response) {
  return RunPooled(edge_, "DeleteAdapter", context, request->SpaceUsedLong(),
                   [edge = edge_, request, response](const std::string& tenant,
                                                     CallFacts* facts) {
                     return DeleteOne(edge, tenant, *request, response, facts);
                   });
}

grpc::ServerUnaryReactor* AdapterService::RollbackAdapter(
    grpc::CallbackServerContext* context,
    const v1::RollbackAdapterRequest* request,
    v1::RollbackAdapterResponse* response) {
  return RunPooled(edge_, "RollbackAdapter", context, request->SpaceUsedLong(),
                   [edge = edge_, request, response](const std::string& tenant,
                                                     CallFacts* facts) {
                     return RollBackOne(edge, tenant, *request, response,
                                        facts);
                   });
}

grpc::ServerWriteReactor<v1::DownloadAdapterResponse>*
AdapterService::DownloadAdapter(grpc::CallbackServerContext* context,
                                const v1::DownloadAdapterRequest* request) {
  const auto call = std::make_shared<DownloadCall>(edge_, context, request);
  edge_->egress->Watch(std::weak_ptr<Egress::Call>(call));
  call->Begin();
  return call.get();
}

grpc::ServerUnaryReactor* AdapterService::ShareAdapter(
    grpc::CallbackServerContext* context,
    const v1::ShareAdapterRequest* request,
    v1::ShareAdapterResponse* response) {
  return RunPooled(edge_, "ShareAdapter", context, request->SpaceUsedLong(),
                   [edge = edge_, request, response](const std::string& tenant,
                                                     CallFacts* facts) {
                     return ShareOne(edge, tenant, *request, response, facts);
                   });
}

grpc::ServerWriteReactor<v1::WatchAdaptersResponse>*
AdapterService::WatchAdapters(grpc::CallbackServerContext* context,
                              const v1::WatchAdaptersRequest* request) {
  const auto call = std::make_shared<WatchCall>(edge_, context, request);
  edge_->egress->Watch(std::weak_ptr<Egress::Call>(call));
  call->Begin();
  return call.get();
}

}  // namespace descant
