#include "server/admin_service.h"

#include <memory>
#include <string>
#include <utility>

#include "adapters/name.h"
#include "runtime/base/status_macros.h"
#include "server/adapter_message.h"
#include "server/managed_call.h"
#include "server/merge_message.h"
#include "server/stats_call.h"
#include "server/verify_call.h"

namespace descant {
namespace {

// The adapter as it is now; what was asked for may have gone since.
void FillReferenced(const EdgeContext& edge, const std::string& tenant,
                    const AdapterId& id, v1::Adapter* message) {
  const auto entry = edge.registry->Find(tenant, id);
  if (entry.ok()) {
    DescribeAdapter(edge, *entry, message);
  } else {
    message->set_name(id.name);
    message->set_digest(id.digest);
  }
}

// For the audit log; as it was asked for.
CallFacts FactsOf(const v1::AdapterReference& adapter) {
  CallFacts facts;
  facts.adapter_id = AdapterLabel(adapter.tenant(), adapter.adapter_id());
  return facts;
}

absl::StatusOr<AdapterId> ParseReference(const v1::AdapterReference& adapter) {
  return ParseAdapterId(adapter.adapter_id());
}

// A new mode of an adapter, and what there is afterwards.
struct ModeChange {
  std::shared_ptr<const Adapter> adapter;
  MergeReport report;  // nobody reads it before the change is done
};

void SetModeAndInspect(Engine* engine, MergeMode mode,
                       const std::shared_ptr<ModeChange>& change,
                       ManagedCall::Done done) {
  engine->SetMergeMode(
      mode, change->adapter,
      [engine, change,
       done = std::move(done)](const AdapterActionResult& result) {
        if (!result.status.ok()) return done(result);
        engine->InspectMerges([change, done](const MergeReport& report) {
          change->report = report;
          done({});
        });
      });
}

}  // namespace

grpc::ServerUnaryReactor* AdminService::GetStats(
    grpc::CallbackServerContext* context, const v1::GetStatsRequest* request,
    v1::GetStatsResponse* response) {
  return StatsCall::Start(edge_, *context, start_, response);
}

grpc::ServerUnaryReactor* AdminService::LoadAdapter(
    grpc::CallbackServerContext* context, const v1::LoadAdapterRequest* request,
    v1::LoadAdapterResponse* response) {
  const std::string tenant = request->adapter().tenant();
  const absl::StatusOr<AdapterId> id = ParseReference(request->adapter());
  const MonotonicTime start = edge_->clock->Now();
  return ManagedCall::Start(
      edge_, *context, "LoadAdapter", FactsOf(request->adapter()),
      [&](ManagedCall::Done done) -> absl::Status {
        DESCANT_RETURN_IF_ERROR(id.status());
        AdapterAction action = AdapterAction::kLoadDevice;
        if (request->level() == v1::ADAPTER_LEVEL_HOST) {
          action = AdapterAction::kLoadHost;
        } else if (request->level() != v1::ADAPTER_LEVEL_UNSPECIFIED &&
                   request->level() != v1::ADAPTER_LEVEL_DEVICE) {
          return FieldError("level", "must be HOST or DEVICE");
        }
        DESCANT_ASSIGN_OR_RETURN(std::shared_ptr<const Adapter> adapter,
                                 edge_->registry->Lookup(tenant, *id));
        edge_->engine->Manage(action, std::move(adapter), std::move(done));
        return absl::OkStatus();
      },
      [edge = edge_, tenant, id, start, response](const AdapterActionResult&) {
        FillReferenced(*edge, tenant, *id, response->mutable_adapter());
        SetSeconds(ToSeconds(edge->clock->Now() - start),
                   response->mutable_took());
      });
}

grpc::ServerUnaryReactor* AdminService::UnloadAdapter(
    grpc::CallbackServerContext* context,
    const v1::UnloadAdapterRequest* request,
    v1::UnloadAdapterResponse* response) {
  const std::string tenant = request->adapter().tenant();
  const absl::StatusOr<AdapterId> id = ParseReference(request->adapter());
  return ManagedCall::Start(
      edge_, *context, "UnloadAdapter", FactsOf(request->adapter()),
      [&](ManagedCall::Done done) -> absl::Status {
        DESCANT_RETURN_IF_ERROR(id.status());
        return edge_->pins->Unload(tenant, *id, std::move(done));
      },
      [edge = edge_, tenant, id, response](const AdapterActionResult& result) {
        FillReferenced(*edge, tenant, *id, response->mutable_adapter());
        response->set_freed_device_bytes(result.freed_device_bytes);
        response->set_freed_host_bytes(result.freed_host_bytes);
      });
}

grpc::ServerUnaryReactor* AdminService::PinAdapter(
    grpc::CallbackServerContext* context, const v1::PinAdapterRequest* request,
    v1::PinAdapterResponse* response) {
  const std::string tenant = request->adapter().tenant();
  const absl::StatusOr<AdapterId> id = ParseReference(request->adapter());
  return ManagedCall::Start(
      edge_, *context, "PinAdapter", FactsOf(request->adapter()),
      [&](ManagedCall::Done done) -> absl::Status {
        DESCANT_RETURN_IF_ERROR(id.status());
        return request->pinned()
                   ? edge_->pins->Pin(tenant, *id, std::move(done))
                   : edge_->pins->Unpin(tenant, *id, std::move(done));
      },
      [edge = edge_, tenant, id, response](const AdapterActionResult&) {
        FillReferenced(*edge, tenant, *id, response->mutable_adapter());
      });
}

grpc::ServerWriteReactor<v1::VerifyStoreResponse>* AdminService::VerifyStore(
    grpc::CallbackServerContext* context,
    const v1::VerifyStoreRequest* request) {
  const auto call = std::make_shared<VerifyCall>(edge_, context);
  call->Begin();
  return call.get();
}

grpc::ServerUnaryReactor* AdminService::ListMerges(
    grpc::CallbackServerContext* context, const v1::ListMergesRequest* request,
    v1::ListMergesResponse* response) {
  const auto report = std::make_shared<MergeReport>();
  return ManagedCall::Start(
      edge_, *context, "ListMerges", {},
      [&](ManagedCall::Done done) -> absl::Status {
        edge_->engine->InspectMerges(
            [report, done = std::move(done)](const MergeReport& now) {
              *report = now;
              done({});
            });
        return absl::OkStatus();
      },
      [report, response](const AdapterActionResult&) {
        DescribeMerges(*report, response);
      });
}

grpc::ServerUnaryReactor* AdminService::SetMergeMode(
    grpc::CallbackServerContext* context,
    const v1::SetMergeModeRequest* request,
    v1::SetMergeModeResponse* response) {
  const auto change = std::make_shared<ModeChange>();
  return ManagedCall::Start(
      edge_, *context, "SetMergeMode", FactsOf(request->adapter()),
      [&](ManagedCall::Done done) -> absl::Status {
        DESCANT_ASSIGN_OR_RETURN(const AdapterId id,
                                 ParseReference(request->adapter()));
        DESCANT_ASSIGN_OR_RETURN(const MergeMode mode,
                                 MergeModeOf(request->mode()));
        DESCANT_ASSIGN_OR_RETURN(
            change->adapter,
            edge_->registry->Lookup(request->adapter().tenant(), id));
        SetModeAndInspect(edge_->engine, mode, change, std::move(done));
        return absl::OkStatus();
      },
      [change, response](const AdapterActionResult&) {
        DescribeMerge(change->report, *change->adapter,
                      response->mutable_status());
      });
}

}  // namespace descant
