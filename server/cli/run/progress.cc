#include "server/cli/run/progress.h"

#include <chrono>
#include <cmath>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace descant::cli {

constexpr Duration kLineInterval = std::chrono::seconds(10);
// Before that, a rate says little.
constexpr double kSecondsToRate = 1;

std::string FormatDuration(double seconds) {
  const auto whole = static_cast<int64_t>(std::lround(seconds));
  if (whole < 3600) return absl::StrFormat("%d:%02d", whole / 60, whole % 60);
  return absl::StrFormat("%d:%02d:%02d", whole / 3600, whole / 60 % 60,
                         whole % 60);
}

std::string DescribeProgress(const RunCounts& counts) {
  std::string text = absl::StrCat(counts.skipped + counts.answered, " done");
  if (counts.failed > 0) absl::StrAppend(&text, ", ", counts.failed, " failed");
  if (counts.seconds < kSecondsToRate) return text;
  absl::StrAppend(
      &text, absl::StrFormat(
                 ", %.0f tokens/s",
                 static_cast<double>(counts.output_tokens) / counts.seconds));
  const uint64_t past = counts.done_bytes + counts.skipped_bytes;
  if (counts.done_bytes > 0 && counts.total_bytes >= past) {
    const double left = static_cast<double>(counts.total_bytes - past) *
                        counts.seconds / static_cast<double>(counts.done_bytes);
    absl::StrAppend(&text, ", ", FormatDuration(left), " left");
  }
  return text;
}

RunProgress::RunProgress(bool show, uint64_t total_bytes)
    : show_(show),
      bar_("run", total_bytes),
      last_line_(std::chrono::steady_clock::now()) {}

void RunProgress::Update(const RunCounts& counts) {
  if (!show_) return;
  if (bar_.enabled() && counts.total_bytes > 0) {
    bar_.Update(counts.done_bytes + counts.skipped_bytes,
                DescribeProgress(counts));
    return;
  }
  const MonotonicTime now = std::chrono::steady_clock::now();
  if (now - last_line_ < kLineInterval) return;
  last_line_ = now;
  std::fprintf(stderr, "run: %s\n", DescribeProgress(counts).c_str());
}

}  // namespace descant::cli
