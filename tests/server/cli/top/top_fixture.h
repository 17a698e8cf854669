// Answers of GetStats, made up.
#ifndef DESCANT_TESTS_SERVER_CLI_TOP_TOP_FIXTURE_H_
#define DESCANT_TESTS_SERVER_CLI_TOP_TOP_FIXTURE_H_

#include <string>

#include "descant/v1/admin.pb.h"

namespace descant::cli {

inline v1::TenantStats* AddTenant(const std::string& name, int weight,
                                  v1::GetStatsResponse* stats) {
  v1::TenantStats* tenant = stats->add_tenants();
  tenant->set_tenant(name);
  tenant->set_weight(weight);
  return tenant;
}

// A server at work: two seconds, three tenants of which one is idle.
inline v1::GetStatsResponse EarlierStats() {
  v1::GetStatsResponse stats;
  stats.mutable_uptime()->set_seconds(3751);
  stats.mutable_uptime()->set_nanos(500000000);
  stats.set_steps(1000);
  stats.set_rows(20000);
  stats.set_prompt_tokens(50000);
  stats.set_generated_tokens(9000);
  AddTenant("acme", 3, &stats)->set_generated_tokens(5000);
  AddTenant("idle", 1, &stats);
  AddTenant("zeta", 1, &stats)->set_prompt_tokens(100);
  return stats;
}

inline v1::GetStatsResponse LaterStats() {
  v1::GetStatsResponse stats = EarlierStats();
  stats.mutable_uptime()->set_seconds(3753);
  stats.set_running_requests(12);
  stats.set_waiting_requests(3);
  stats.set_kv_blocks_total(1024);
  stats.set_kv_blocks_used(512);
  stats.set_kv_blocks_cached(256);
  stats.set_adapter_slots_total(64);
  stats.set_adapter_slots_used(16);
  stats.set_registered_adapters(103);
  stats.set_steps(1090);
  stats.set_rows(21980);
  stats.set_prompt_tokens(52468);
  stats.set_generated_tokens(10000);
  stats.set_adapter_loads(3);
  v1::TenantStats* acme = stats.mutable_tenants(0);
  acme->set_running_requests(9);
  acme->set_prompt_tokens(1000);
  acme->set_cached_tokens(500);
  acme->set_generated_tokens(5650);  // cost 500 + 1300
  acme->set_kv_blocks_used(400);
  acme->set_kv_blocks_cached(200);
  acme->set_adapter_slots_used(12);
  v1::TenantStats* zeta = stats.mutable_tenants(2);
  zeta->set_running_requests(3);
  zeta->set_waiting_requests(3);
  zeta->set_prompt_tokens(100);
  zeta->set_generated_tokens(100);  // cost 200
  zeta->set_refused_requests(25);
  zeta->set_kv_blocks_used(112);
  v1::AdapterActivity* adapter = stats.add_active_adapters();
  adapter->set_tenant("acme");
  adapter->set_name("pirate");
  adapter->set_digest("sha256:ce229d6e655d0123456789");
  adapter->set_level(v1::ADAPTER_LEVEL_DEVICE);
  adapter->set_running_requests(7);
  adapter = stats.add_active_adapters();
  adapter->set_tenant("zeta");
  adapter->set_name("text-to-sql");
  adapter->set_digest("sha256:1a103857403d0123456789");
  adapter->set_level(v1::ADAPTER_LEVEL_DISK);
  adapter->set_waiting_requests(3);
  return stats;
}

}  // namespace descant::cli

#endif  // DESCANT_TESTS_SERVER_CLI_TOP_TOP_FIXTURE_H_
