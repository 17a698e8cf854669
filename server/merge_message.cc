#include "server/merge_message.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "server/errors.h"
#include "server/stats_call.h"

namespace descant {
namespace {

v1::MergeMode ModeMessage(MergeMode mode) {
  switch (mode) {
    case MergeMode::kAuto:
      return v1::MERGE_MODE_AUTO;
    case MergeMode::kPinned:
      return v1::MERGE_MODE_PINNED;
    case MergeMode::kForbidden:
      return v1::MERGE_MODE_FORBIDDEN;
  }
  return v1::MERGE_MODE_UNSPECIFIED;
}

v1::MergeState StateMessage(MergeState state) {
  switch (state) {
    case MergeState::kUnmerged:
      return v1::MERGE_STATE_UNMERGED;
    case MergeState::kBuilding:
      return v1::MERGE_STATE_BUILDING;
    case MergeState::kChecking:
      return v1::MERGE_STATE_CHECKING;
    case MergeState::kMerged:
      return v1::MERGE_STATE_MERGED;
    case MergeState::kRefused:
      return v1::MERGE_STATE_REFUSED;
  }
  return v1::MERGE_STATE_UNSPECIFIED;
}

void Describe(const MergeStatus& status, v1::MergeStatus* message) {
  const MergeRecord& record = status.record;
  message->set_tenant(status.tenant);
  message->set_name(status.name);
  message->set_digest(record.key.digest);
  message->set_mode(ModeMessage(record.mode));
  message->set_state(StateMessage(record.state));
  message->set_reason(record.reason);
  message->set_merged_bytes(record.bytes);
  if (record.gain.has_value()) message->set_gain(*record.gain);
  message->set_gain_samples(static_cast<uint32_t>(record.samples));
  SetSeconds(record.alone_seconds, message->mutable_alone_time());
  SetSeconds(record.recent_seconds, message->mutable_recent_time());
  message->set_merged_steps(record.merged_steps);
  message->set_builds(record.builds);
  SetSeconds(record.build_seconds, message->mutable_build_time());
  SetSeconds(record.measure_seconds, message->mutable_measure_time());
  message->set_saved_seconds(record.saved_seconds);
  if (status.check.outputs == 0) return;
  v1::MergeCheck* check = message->mutable_check();
  check->set_outputs(static_cast<uint32_t>(status.check.outputs));
  check->set_largest_difference(status.check.largest);
  check->set_flips(static_cast<uint32_t>(status.check.flips));
  check->set_widest_flip(status.check.widest_flip);
}

void Describe(const MergeEvent& event, v1::MergeEvent* message) {
  const double seconds = std::floor(event.unix_seconds);
  message->mutable_time()->set_seconds(static_cast<int64_t>(seconds));
  message->mutable_time()->set_nanos(
      static_cast<int32_t>((event.unix_seconds - seconds) * 1e9));
  message->set_tenant(event.tenant);
  message->set_name(event.name);
  message->set_digest(event.digest);
  message->set_state(StateMessage(event.state));
  message->set_reason(event.reason);
}

std::string WhyNothing(const MergeReport& report) {
  if (!report.enabled) return "the server runs with --hot-merge=off";
  if (!report.unavailable.empty()) return report.unavailable;
  return "had no steps for itself";
}

}  // namespace

absl::StatusOr<MergeMode> MergeModeOf(v1::MergeMode mode) {
  switch (mode) {
    case v1::MERGE_MODE_AUTO:
      return MergeMode::kAuto;
    case v1::MERGE_MODE_PINNED:
      return MergeMode::kPinned;
    case v1::MERGE_MODE_FORBIDDEN:
      return MergeMode::kForbidden;
    default:
      return FieldError("mode", "must be AUTO, PINNED or FORBIDDEN");
  }
}

void DescribeMerges(const MergeReport& report,
                    v1::ListMergesResponse* response) {
  response->set_enabled(report.enabled);
  response->set_unavailable_reason(report.unavailable);
  response->set_memory_used_bytes(report.memory_used);
  response->set_memory_capacity_bytes(report.memory_capacity);
  for (const MergeStatus& status : report.adapters) {
    Describe(status, response->add_adapters());
  }
  for (const MergeEvent& event : report.history) {
    Describe(event, response->add_history());
  }
}

void DescribeMerge(const MergeReport& report, const Adapter& adapter,
                   v1::MergeStatus* message) {
  const auto found =
      std::find_if(report.adapters.begin(), report.adapters.end(),
                   [&adapter](const MergeStatus& status) {
                     return status.tenant == adapter.tenant &&
                            status.record.key.digest == adapter.digest;
                   });
  if (found != report.adapters.end()) return Describe(*found, message);
  message->set_tenant(adapter.tenant);
  message->set_name(adapter.name);
  message->set_digest(adapter.digest);
  message->set_mode(v1::MERGE_MODE_AUTO);
  message->set_state(v1::MERGE_STATE_UNMERGED);
  message->set_reason(WhyNothing(report));
}

}  // namespace descant
