#include "server/stats_call.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/adapter_message.h"
#include "server/audit_trail.h"
#include "server/authorization.h"
#include "server/errors.h"
#include "server/limits.h"

namespace descant {
namespace {

void FillStats(const EngineStats& stats, v1::GetStatsResponse* response) {
  response->set_running_requests(stats.running);
  response->set_waiting_requests(stats.waiting);
  response->set_kv_blocks_total(stats.blocks_total);
  response->set_kv_blocks_used(stats.blocks_used);
  response->set_kv_blocks_cached(stats.blocks_cached);
  response->set_draft_tokens(stats.draft_tokens);
  response->set_accepted_draft_tokens(stats.accepted_draft_tokens);
  response->set_adapter_slots_total(stats.slots_total);
  response->set_adapter_slots_used(stats.slots_used);
  response->set_steps(stats.steps);
  response->set_rows(stats.rows);
  response->set_prompt_tokens(stats.prompt_tokens);
  response->set_cached_tokens(stats.cached_tokens);
  response->set_generated_tokens(stats.generated_tokens);
  response->set_preemptions(stats.preemptions);
  response->set_adapter_loads(stats.adapter_loads);
  response->set_adapter_evictions(stats.adapter_evictions);
  response->set_numeric_faults(stats.numeric_faults);
  SetSeconds(stats.step_seconds, response->mutable_step_time());
  for (const std::string& name : stats.running_adapters) {
    response->add_resident_adapters(name);
  }
  for (const std::string& name : stats.waiting_adapters) {
    response->add_waiting_adapters(name);
  }
}

void FillTenant(const EdgeContext& edge, const Tenant& tenant,
                const EngineActivity& activity, v1::TenantStats* stats) {
  stats->set_tenant(tenant.id);
  stats->set_weight(tenant.weight);
  const TenantCounts counts = edge.usage->CountsOf(tenant.id);
  stats->set_requests(counts.requests);
  stats->set_refused_requests(counts.refused);
  stats->set_prompt_tokens(counts.prompt_tokens);
  stats->set_cached_tokens(counts.cached_tokens);
  stats->set_generated_tokens(counts.generated_tokens);
  const AdapterRegistry::Usage stored = edge.registry->UsageOf(tenant.id);
  stats->set_stored_adapters(static_cast<uint32_t>(stored.adapters));
  stats->set_stored_bytes(stored.file_bytes);
  const auto now = std::find_if(
      activity.tenants.begin(), activity.tenants.end(),
      [&tenant](const TenantActivity& t) { return t.tenant == tenant.id; });
  if (now == activity.tenants.end()) return;
  stats->set_running_requests(now->running);
  stats->set_waiting_requests(now->waiting);
  stats->set_kv_blocks_used(now->blocks_used);
  stats->set_kv_blocks_cached(now->blocks_cached);
  stats->set_adapter_slots_used(now->slots_used);
}

void FillAdapters(const EdgeContext& edge, const EngineActivity& activity,
                  v1::GetStatsResponse* response) {
  for (const AdapterActivity& adapter : activity.adapters) {
    if (response->active_adapters_size() == limits::kMaxActiveAdapters) return;
    v1::AdapterActivity* message = response->add_active_adapters();
    message->set_tenant(adapter.tenant);
    message->set_name(adapter.name);
    message->set_digest(adapter.digest);
    message->set_level(LevelMessage(
        edge.engine->LevelOf(adapter.tenant, adapter.digest, nullptr)));
    message->set_running_requests(adapter.running);
    message->set_waiting_requests(adapter.waiting);
  }
}

}  // namespace

void SetSeconds(double seconds, google::protobuf::Duration* to) {
  const double whole = std::floor(seconds);
  to->set_seconds(static_cast<int64_t>(whole));
  to->set_nanos(static_cast<int32_t>((seconds - whole) * 1e9));
}

grpc::ServerUnaryReactor* StatsCall::Start(
    EdgeContext* edge, const grpc::CallbackServerContext& context,
    MonotonicTime ready_since, v1::GetStatsResponse* response) {
  auto call = std::make_shared<StatsCall>(edge, ready_since, response);
  call->self_ = call;
  Caller caller;
  const absl::Status status =
      AuthorizeOperator(*edge, context, "GetStats", &caller);
  AuditCall(*edge, caller, "GetStats", {}, status);
  if (!status.ok()) {
    call->End(status);
    return call.get();
  }
  edge->egress->Watch(call);
  edge->engine->Inspect(
      [call](const EngineActivity& activity) { call->Answer(activity); });
  return call.get();
}

void StatsCall::OnCancel() {
  End(absl::CancelledError("the call was cancelled"));
}

void StatsCall::Sweep(MonotonicTime now) {
  if (now - begin_ >= kPatience) Answer({});
}

void StatsCall::Answer(const EngineActivity& activity) {
  MutexLock lock(&mutex_);
  if (ended_) return;
  ended_ = true;
  FillStats(edge_->engine->Stats(), response_);
  response_->set_registered_adapters(
      static_cast<uint32_t>(edge_->registry->TotalUsage().adapters));
  SetSeconds(ToSeconds(edge_->clock->Now() - ready_since_),
             response_->mutable_uptime());
  if (edge_->tenants == nullptr) {
    FillTenant(*edge_, Tenant(), activity, response_->add_tenants());
  } else {
    for (const auto& tenant : edge_->tenants->current()->tenants()) {
      FillTenant(*edge_, *tenant, activity, response_->add_tenants());
    }
  }
  FillAdapters(*edge_, activity, response_);
  Finish(grpc::Status::OK);
}

void StatsCall::End(const absl::Status& status) {
  MutexLock lock(&mutex_);
  if (ended_) return;
  ended_ = true;
  edge_->metrics->RecordRefusal("GetStats",
                                absl::StatusCodeToString(status.code()));
  Finish(ToGrpcStatus(status, {}));
}

}  // namespace descant
