#include "server/cli/merges_text.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "server/cli/progress_bar.h"
#include "server/cli/table.h"
#include "server/cli/text.h"

namespace descant::cli {
namespace {

// Digits of a digest that a table shows.
constexpr size_t kShortDigest = 19;

double Seconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + duration.nanos() * 1e-9;
}

std::string SecondsText(double seconds) {
  return absl::StrFormat("%.1f s", seconds);
}

std::string Label(const std::string& tenant, const std::string& name) {
  return tenant.empty() ? name : absl::StrCat(tenant, "/", name);
}

std::string GainText(const v1::MergeStatus& status) {
  if (!status.has_gain()) return "-";
  return absl::StrFormat("%.1f %%", 100 * status.gain());
}

// How far merged tokens were from unmerged ones.
std::string CheckText(const v1::MergeStatus& status) {
  if (!status.has_check()) return "-";
  return absl::StrFormat("%.3f", status.check().largest_difference());
}

std::string MemoryLine(const v1::ListMergesResponse& merges) {
  if (!merges.enabled()) {
    return "hot merge is off: the server runs with --hot-merge=off\n";
  }
  if (!merges.unavailable_reason().empty()) {
    return absl::StrCat(
        "hot merge is off: ", TerminalText(merges.unavailable_reason()), "\n");
  }
  return absl::StrCat("merged weights take ",
                      FormatBytes(merges.memory_used_bytes()), " of ",
                      FormatBytes(merges.memory_capacity_bytes()), "\n");
}

Json EventJson(const v1::MergeEvent& event) {
  return {{"time", FormatTime(event.time())},
          {"tenant", event.tenant()},
          {"name", event.name()},
          {"digest", event.digest()},
          {"state", MergeStateName(event.state())},
          {"reason", event.reason()}};
}

}  // namespace

std::string MergeModeName(v1::MergeMode mode) {
  return absl::AsciiStrToLower(
      absl::StripPrefix(v1::MergeMode_Name(mode), "MERGE_MODE_"));
}

std::string MergeStateName(v1::MergeState state) {
  return absl::AsciiStrToLower(
      absl::StripPrefix(v1::MergeState_Name(state), "MERGE_STATE_"));
}

std::string RenderMerges(const v1::ListMergesResponse& merges) {
  std::string text = MemoryLine(merges);
  if (merges.adapters().empty()) return text;
  Table table({{"adapter"},
               {"digest"},
               {"state"},
               {"mode"},
               {"gain", Align::kRight},
               {"saved", Align::kRight},
               {"merged steps", Align::kRight},
               {"alone", Align::kRight},
               {"recent", Align::kRight},
               {"builds", Align::kRight},
               {"check", Align::kRight},
               {"memory", Align::kRight},
               {"reason"}});
  for (const v1::MergeStatus& status : merges.adapters()) {
    table.AddRow({Label(status.tenant(), status.name()),
                  status.digest().substr(0, kShortDigest),
                  MergeStateName(status.state()), MergeModeName(status.mode()),
                  GainText(status), SecondsText(status.saved_seconds()),
                  absl::StrCat(status.merged_steps()),
                  SecondsText(Seconds(status.alone_time())),
                  SecondsText(Seconds(status.recent_time())),
                  absl::StrCat(status.builds()), CheckText(status),
                  FormatBytes(status.merged_bytes()), status.reason()});
  }
  return text + table.Render();
}

std::string RenderMergeHistory(const v1::ListMergesResponse& merges) {
  Table table({{"time"}, {"adapter"}, {"digest"}, {"state"}, {"reason"}});
  for (const v1::MergeEvent& event : merges.history()) {
    table.AddRow({FormatTime(event.time()), Label(event.tenant(), event.name()),
                  event.digest().substr(0, kShortDigest),
                  MergeStateName(event.state()), event.reason()});
  }
  return table.Render();
}

Json MergeJson(const v1::MergeStatus& status) {
  Json check;
  if (status.has_check()) {
    check = {{"outputs", status.check().outputs()},
             {"largest_difference", status.check().largest_difference()},
             {"flips", status.check().flips()},
             {"widest_flip", status.check().widest_flip()}};
  }
  return {{"tenant", status.tenant()},
          {"name", status.name()},
          {"digest", status.digest()},
          {"mode", MergeModeName(status.mode())},
          {"state", MergeStateName(status.state())},
          {"reason", status.reason()},
          {"merged_bytes", status.merged_bytes()},
          {"gain", status.has_gain() ? Json(status.gain()) : Json()},
          {"gain_samples", status.gain_samples()},
          {"alone_seconds", Seconds(status.alone_time())},
          {"recent_seconds", Seconds(status.recent_time())},
          {"merged_steps", status.merged_steps()},
          {"builds", status.builds()},
          {"build_seconds", Seconds(status.build_time())},
          {"measure_seconds", Seconds(status.measure_time())},
          {"saved_seconds", status.saved_seconds()},
          {"check", std::move(check)}};
}

Json MergesJson(const v1::ListMergesResponse& merges) {
  Json adapters = Json::array();
  for (const v1::MergeStatus& status : merges.adapters()) {
    adapters.push_back(MergeJson(status));
  }
  Json history = Json::array();
  for (const v1::MergeEvent& event : merges.history()) {
    history.push_back(EventJson(event));
  }
  return {{"enabled", merges.enabled()},
          {"unavailable_reason", merges.unavailable_reason()},
          {"memory_used_bytes", merges.memory_used_bytes()},
          {"memory_capacity_bytes", merges.memory_capacity_bytes()},
          {"adapters", std::move(adapters)},
          {"history", std::move(history)}};
}

}  // namespace descant::cli
