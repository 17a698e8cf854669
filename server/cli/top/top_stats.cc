#include "server/cli/top/top_stats.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "absl/strings/str_cat.h"

namespace descant::cli {
namespace {

double SecondsOf(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + 1e-9 * duration.nanos();
}

// A counter that fell is another server's.
uint64_t Difference(uint64_t before, uint64_t after) {
  return after > before ? after - before : 0;
}

std::optional<double> Ratio(double part, double whole) {
  if (whole <= 0) return std::nullopt;
  return part / whole;
}

// As the scheduler's fairness counts (runtime/core/fairness.h).
double CostOf(uint64_t prompt, uint64_t cached, uint64_t generated) {
  return static_cast<double>(Difference(cached, prompt)) +
         2 * static_cast<double>(generated);
}

struct Line {
  TopTenant tenant;
  double cost = 0;
  uint64_t prompt = 0;
  uint64_t cached = 0;
  bool active = false;
};

Line LineOf(const v1::TenantStats* before, const v1::TenantStats& after,
            double interval) {
  static const v1::TenantStats& none = v1::TenantStats::default_instance();
  if (before == nullptr) before = &none;
  Line line;
  TopTenant& tenant = line.tenant;
  tenant.name = after.tenant();
  tenant.weight = after.weight();
  tenant.running = after.running_requests();
  tenant.waiting = after.waiting_requests();
  tenant.kv_blocks_used = after.kv_blocks_used();
  tenant.kv_blocks_cached = after.kv_blocks_cached();
  tenant.slots_used = after.adapter_slots_used();
  tenant.stored_adapters = after.stored_adapters();
  tenant.stored_bytes = after.stored_bytes();
  if (interval <= 0) return line;
  line.prompt = Difference(before->prompt_tokens(), after.prompt_tokens());
  line.cached = Difference(before->cached_tokens(), after.cached_tokens());
  const uint64_t generated =
      Difference(before->generated_tokens(), after.generated_tokens());
  line.cost = CostOf(line.prompt, line.cached, generated);
  line.active =
      line.cost > 0 || after.running_requests() + after.waiting_requests() > 0;
  tenant.prompt_tokens = static_cast<double>(line.prompt) / interval;
  tenant.generated_tokens = static_cast<double>(generated) / interval;
  tenant.cached =
      Ratio(static_cast<double>(line.cached), static_cast<double>(line.prompt));
  tenant.refused = static_cast<double>(Difference(before->refused_requests(),
                                                  after.refused_requests())) /
                   interval;
  return line;
}

void AddTenants(const v1::GetStatsResponse& before,
                const v1::GetStatsResponse& after, TopStats* stats) {
  std::map<std::string, const v1::TenantStats*> earlier;
  for (const v1::TenantStats& tenant : before.tenants()) {
    earlier.emplace(tenant.tenant(), &tenant);
  }
  std::vector<Line> lines;
  double cost = 0;
  double weights = 0;
  double prompt = 0;
  double cached = 0;
  for (const v1::TenantStats& tenant : after.tenants()) {
    const auto found = earlier.find(tenant.tenant());
    const Line& line = lines.emplace_back(
        LineOf(found == earlier.end() ? nullptr : found->second, tenant,
               stats->interval));
    cost += line.cost;
    weights += line.active ? line.tenant.weight : 0;
    prompt += static_cast<double>(line.prompt);
    cached += static_cast<double>(line.cached);
  }
  stats->cached = Ratio(cached, prompt);
  std::stable_sort(
      lines.begin(), lines.end(), [](const Line& a, const Line& b) {
        return std::make_tuple(a.cost, a.tenant.running, a.tenant.waiting) >
               std::make_tuple(b.cost, b.tenant.running, b.tenant.waiting);
      });
  for (Line& line : lines) {
    if (line.active) {
      line.tenant.share = Ratio(line.cost, cost);
      line.tenant.weight_share = Ratio(line.tenant.weight, weights);
    }
    stats->tenants.push_back(std::move(line.tenant));
  }
}

Json OrNull(const std::optional<double>& value) {
  return value.has_value() ? Json(*value) : Json();
}

Json TenantJson(const TopTenant& tenant) {
  return {{"tenant", tenant.name},
          {"weight", tenant.weight},
          {"share", OrNull(tenant.share)},
          {"weight_share", OrNull(tenant.weight_share)},
          {"running", tenant.running},
          {"waiting", tenant.waiting},
          {"prompt_tokens_per_s", OrNull(tenant.prompt_tokens)},
          {"generated_tokens_per_s", OrNull(tenant.generated_tokens)},
          {"cached", OrNull(tenant.cached)},
          {"refused_per_s", OrNull(tenant.refused)},
          {"kv_blocks_used", tenant.kv_blocks_used},
          {"kv_blocks_cached", tenant.kv_blocks_cached},
          {"adapter_slots_used", tenant.slots_used},
          {"stored_adapters", tenant.stored_adapters},
          {"stored_bytes", tenant.stored_bytes}};
}

}  // namespace

TopStats TopStatsOf(const v1::GetStatsResponse* before,
                    const v1::GetStatsResponse& after) {
  TopStats stats;
  stats.uptime = SecondsOf(after.uptime());
  stats.running = after.running_requests();
  stats.waiting = after.waiting_requests();
  stats.kv_blocks_total = after.kv_blocks_total();
  stats.kv_blocks_used = after.kv_blocks_used();
  stats.kv_blocks_cached = after.kv_blocks_cached();
  stats.slots_total = after.adapter_slots_total();
  stats.slots_used = after.adapter_slots_used();
  stats.registered_adapters = after.registered_adapters();
  if (before == nullptr) before = &v1::GetStatsResponse::default_instance();
  const bool continues =
      before->has_uptime() && before->steps() <= after.steps();
  if (continues) {
    stats.interval = std::max(0.0, stats.uptime - SecondsOf(before->uptime()));
  }
  if (stats.interval > 0) {
    const auto rate = [&stats](uint64_t from, uint64_t to) {
      return static_cast<double>(Difference(from, to)) / stats.interval;
    };
    const v1::GetStatsResponse& b = *before;
    stats.prompt_tokens = rate(b.prompt_tokens(), after.prompt_tokens());
    stats.generated_tokens =
        rate(b.generated_tokens(), after.generated_tokens());
    stats.steps = rate(b.steps(), after.steps());
    stats.rows_per_step = Ratio(rate(b.rows(), after.rows()), *stats.steps);
    stats.preemptions = rate(b.preemptions(), after.preemptions());
    stats.adapter_loads = rate(b.adapter_loads(), after.adapter_loads());
    stats.adapter_evictions =
        rate(b.adapter_evictions(), after.adapter_evictions());
  }
  AddTenants(*before, after, &stats);
  for (const v1::AdapterActivity& adapter : after.active_adapters()) {
    stats.adapters.push_back(
        {adapter.tenant().empty()
             ? adapter.name()
             : absl::StrCat(adapter.tenant(), "/", adapter.name()),
         adapter.digest(), AdapterLevelName(adapter.level()),
         adapter.running_requests(), adapter.waiting_requests()});
  }
  return stats;
}

Json TopJson(const TopStats& stats) {
  Json tenants = Json::array();
  for (const TopTenant& tenant : stats.tenants) {
    tenants.push_back(TenantJson(tenant));
  }
  Json adapters = Json::array();
  for (const TopAdapter& adapter : stats.adapters) {
    adapters.push_back({{"name", adapter.name},
                        {"digest", adapter.digest},
                        {"level", adapter.level},
                        {"running", adapter.running},
                        {"waiting", adapter.waiting}});
  }
  return {{"uptime_s", stats.uptime},
          {"interval_s", stats.interval},
          {"running", stats.running},
          {"waiting", stats.waiting},
          {"prompt_tokens_per_s", OrNull(stats.prompt_tokens)},
          {"generated_tokens_per_s", OrNull(stats.generated_tokens)},
          {"cached", OrNull(stats.cached)},
          {"steps_per_s", OrNull(stats.steps)},
          {"rows_per_step", OrNull(stats.rows_per_step)},
          {"preemptions_per_s", OrNull(stats.preemptions)},
          {"kv_blocks_total", stats.kv_blocks_total},
          {"kv_blocks_used", stats.kv_blocks_used},
          {"kv_blocks_cached", stats.kv_blocks_cached},
          {"adapter_slots_total", stats.slots_total},
          {"adapter_slots_used", stats.slots_used},
          {"adapter_loads_per_s", OrNull(stats.adapter_loads)},
          {"adapter_evictions_per_s", OrNull(stats.adapter_evictions)},
          {"registered_adapters", stats.registered_adapters},
          {"tenants", std::move(tenants)},
          {"adapters", std::move(adapters)}};
}

}  // namespace descant::cli
