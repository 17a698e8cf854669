#include "server/cli/progress_bar.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace descant::cli {

constexpr uint64_t kCells = 30;
constexpr auto kRedrawInterval = std::chrono::milliseconds(100);

std::string FormatBytes(uint64_t bytes) {
  if (bytes < 1000) return absl::StrCat(bytes, " B");
  constexpr std::array<const char*, 6> kUnits = {"kB", "MB", "GB",
                                                 "TB", "PB", "EB"};
  double value = static_cast<double>(bytes) / 1000;
  size_t unit = 0;
  while (value >= 999.5 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  return absl::StrFormat(value < 99.95 ? "%.1f %s" : "%.0f %s", value,
                         kUnits[unit]);
}

std::string RenderProgress(absl::string_view label, uint64_t done,
                           uint64_t total, absl::string_view note) {
  done = std::min(done, total);
  const double share =
      total == 0 ? 1.0 : static_cast<double>(done) / static_cast<double>(total);
  const auto filled = static_cast<size_t>(share * kCells);
  return absl::StrFormat("%s  [%s%s]  %3d %%  %s", std::string(label),
                         std::string(filled, '#'),
                         std::string(kCells - filled, ' '),
                         static_cast<int>(share * 100), std::string(note));
}

ProgressBar::ProgressBar(absl::string_view label, uint64_t total)
    : label_(label), total_(total), enabled_(isatty(STDERR_FILENO) == 1) {}

ProgressBar::~ProgressBar() {
  if (drawn_) std::fputc('\n', stderr);
}

void ProgressBar::Update(uint64_t done, absl::string_view note) {
  if (!enabled_) return;
  const MonotonicTime now = std::chrono::steady_clock::now();
  if (drawn_ && done < total_ && now - last_draw_ < kRedrawInterval) return;
  drawn_ = true;
  last_draw_ = now;
  // Cleared to the end of the line: the note can get shorter.
  std::fprintf(stderr, "\r%s\x1b[K",
               RenderProgress(label_, done, total_, note).c_str());
  std::fflush(stderr);
}

}  // namespace descant::cli
