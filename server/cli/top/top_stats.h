// What `descant top` shows: rates and shares from two answers of GetStats.
#ifndef DESCANT_SERVER_CLI_TOP_TOP_STATS_H_
#define DESCANT_SERVER_CLI_TOP_TOP_STATS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "descant/v1/admin.pb.h"
#include "server/cli/json_output.h"

namespace descant::cli {

// Rates are a second's; empty where there is no interval to measure over, or
// nothing happened in it.
struct TopTenant {
  std::string name;  // "" where tenants are off
  int32_t weight = 1;
  // Of what all tenants got in the interval, counted as the scheduler's
  // fairness counts it: a prompt token that was not cached 1, a generated one
  // 2.
  std::optional<double> share;
  // What its weight says, among the tenants that had something to do.
  std::optional<double> weight_share;
  int32_t running = 0;
  int32_t waiting = 0;
  std::optional<double> prompt_tokens;  // of prompts that were computed
  std::optional<double> generated_tokens;
  std::optional<double> cached;  // share of its prompt tokens
  std::optional<double> refused;
  int32_t kv_blocks_used = 0;
  int32_t kv_blocks_cached = 0;
  int32_t slots_used = 0;
  uint32_t stored_adapters = 0;
  uint64_t stored_bytes = 0;
};

struct TopAdapter {
  std::string name;  // "tenant/name", or "name" where tenants are off
  std::string digest;
  std::string level;
  int32_t running = 0;
  int32_t waiting = 0;
};

struct TopStats {
  double uptime = 0;    // s
  double interval = 0;  // s; 0: there was no answer before, or a restart
  int32_t running = 0;
  int32_t waiting = 0;
  int32_t kv_blocks_total = 0;
  int32_t kv_blocks_used = 0;
  int32_t kv_blocks_cached = 0;
  int32_t slots_total = 0;
  int32_t slots_used = 0;
  uint32_t registered_adapters = 0;
  std::optional<double> prompt_tokens;  // of requests that came
  std::optional<double> generated_tokens;
  std::optional<double> cached;  // share of prompt tokens
  std::optional<double> steps;
  std::optional<double> rows_per_step;
  std::optional<double> preemptions;
  std::optional<double> adapter_loads;
  std::optional<double> adapter_evictions;
  std::vector<TopTenant> tenants;    // the busiest first
  std::vector<TopAdapter> adapters;  // the busiest first
};

// `before` may be null. The interval is that between the answers, by the
// server's clock.
TopStats TopStatsOf(const v1::GetStatsResponse* before,
                    const v1::GetStatsResponse& after);

// All of it; null for what is empty.
Json TopJson(const TopStats& stats);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_TOP_TOP_STATS_H_
