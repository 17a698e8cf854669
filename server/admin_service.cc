#include "server/admin_service.h"

#include <cmath>
#include <string>

namespace descant {
namespace {

void SetSeconds(double seconds, google::protobuf::Duration* to) {
  const double whole = std::floor(seconds);
  to->set_seconds(static_cast<int64_t>(whole));
  to->set_nanos(static_cast<int32_t>((seconds - whole) * 1e9));
}

}  // namespace

grpc::ServerUnaryReactor* AdminService::GetStats(
    grpc::CallbackServerContext* context, const v1::GetStatsRequest* request,
    v1::GetStatsResponse* response) {
  const EngineStats stats = edge_->engine->Stats();
  response->set_running_requests(stats.running);
  response->set_waiting_requests(stats.waiting);
  response->set_kv_blocks_total(stats.blocks_total);
  response->set_kv_blocks_used(stats.blocks_used);
  response->set_adapter_slots_total(stats.slots_total);
  response->set_adapter_slots_used(stats.slots_used);
  response->set_steps(stats.steps);
  response->set_rows(stats.rows);
  response->set_prompt_tokens(stats.prompt_tokens);
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
  response->set_registered_adapters(
      static_cast<uint32_t>(edge_->registry->TotalUsage().adapters));
  SetSeconds(ToSeconds(edge_->clock->Now() - start_),
             response->mutable_uptime());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace descant
