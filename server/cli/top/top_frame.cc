#include "server/cli/top/top_frame.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"

namespace descant::cli {
namespace {

constexpr size_t kMinNameWidth = 10;
constexpr size_t kMaxNameWidth = 44;
constexpr size_t kDigestWidth = 12;

std::string Printable(absl::string_view text) {
  std::string result(text);
  for (char& byte : result) {
    if (!absl::ascii_isprint(static_cast<unsigned char>(byte))) byte = '?';
  }
  return result;
}

std::string Cut(std::string text, size_t width) {
  if (text.size() <= width) return text;
  text.resize(width);
  if (width > 0) text.back() = '~';
  return text;
}

std::string Fill(std::string text, size_t width, bool right) {
  text = Cut(std::move(text), width);
  const std::string space(width - text.size(), ' ');
  return right ? space + text : text + space;
}

// Four significant places at most: "0.5", "87.2", "412", "12.3k", "1.2M".
std::string Number(const std::optional<double>& value) {
  if (!value.has_value() || !std::isfinite(*value)) return "-";
  if (*value < 99.95) return absl::StrFormat("%.1f", *value);
  if (*value < 9999.5) return absl::StrFormat("%.0f", *value);
  if (*value < 999950) return absl::StrFormat("%.1fk", *value / 1e3);
  if (*value < 999.95e6) return absl::StrFormat("%.1fM", *value / 1e6);
  return absl::StrFormat("%.1fG", *value / 1e9);
}

std::string Percent(const std::optional<double>& share) {
  if (!share.has_value() || !std::isfinite(*share)) return "-";
  return absl::StrFormat("%.0f %%", 100 * *share);
}

// "1:02:33", "3d 01:02:33".
std::string Clock(double seconds) {
  const auto whole = static_cast<int64_t>(std::max(0.0, seconds));
  const std::string day = absl::StrFormat("%02d:%02d:%02d", whole / 3600 % 24,
                                          whole / 60 % 60, whole % 60);
  if (whole < 86400) return day;
  return absl::StrCat(whole / 86400, "d ", day);
}

// "[####==      ]": of `total`, `full` are in use and `half` are taken but
// free to be had.
std::string Bar(int64_t full, int64_t half, int64_t total, size_t cells) {
  const auto share = [&](int64_t part) -> size_t {
    if (total <= 0) return 0;
    return static_cast<size_t>(
        std::clamp<int64_t>(part * static_cast<int64_t>(cells) / total, 0,
                            static_cast<int64_t>(cells)));
  };
  const size_t used = share(full);
  const size_t taken = std::max(used, share(full + half));
  return absl::StrCat("[", std::string(used, '#'),
                      std::string(taken - used, '='),
                      std::string(cells - taken, ' '), "]");
}

struct Line {
  std::string text;
  bool title = false;
};

struct Column {
  const char* title;
  size_t width;
  // Columns go in this order, the highest first, where the name would get less
  // than kMinNameWidth; 0 stays.
  int dispensable = 0;
};

// A table whose first column takes the width that the others leave.
class Grid {
 public:
  Grid(const char* name_title, std::vector<Column> columns, size_t width)
      : name_title_(name_title), columns_(std::move(columns)) {
    shown_.assign(columns_.size(), true);
    while (NameWidth(width) < kMinNameWidth && DropOne()) continue;
    name_width_ = std::clamp(NameWidth(width), std::min(width, kMinNameWidth),
                             kMaxNameWidth);
  }

  Line Titles() const {
    std::vector<std::string> titles;
    for (const Column& column : columns_) titles.emplace_back(column.title);
    return {RowText(name_title_, titles), true};
  }
  Line Row(absl::string_view name,
           const std::vector<std::string>& cells) const {
    return {RowText(Printable(name), cells), false};
  }

 private:
  // 0 where the columns need more than there is.
  size_t NameWidth(size_t width) const {
    size_t others = 0;
    for (size_t i = 0; i < columns_.size(); ++i) {
      if (shown_[i]) others += 2 + columns_[i].width;
    }
    return width > others ? width - others : 0;
  }

  bool DropOne() {
    size_t drop = columns_.size();
    for (size_t i = 0; i < columns_.size(); ++i) {
      if (!shown_[i] || columns_[i].dispensable == 0) continue;
      if (drop == columns_.size() ||
          columns_[i].dispensable > columns_[drop].dispensable) {
        drop = i;
      }
    }
    if (drop == columns_.size()) return false;
    shown_[drop] = false;
    return true;
  }

  std::string RowText(const std::string& name,
                      const std::vector<std::string>& cells) const {
    std::string text = Fill(name, name_width_, false);
    for (size_t i = 0; i < columns_.size(); ++i) {
      if (!shown_[i]) continue;
      absl::StrAppend(&text, "  ", Fill(cells[i], columns_[i].width, true));
    }
    return text;
  }

  const char* const name_title_;
  const std::vector<Column> columns_;
  std::vector<bool> shown_;
  size_t name_width_ = 0;
};

void AddHeader(const TopStats& stats, const TopView& view,
               std::vector<Line>* lines) {
  std::string title = "descant";
  if (!view.title.empty()) absl::StrAppend(&title, "  ", view.title);
  title = Printable(title);
  const std::string up = absl::StrCat("up ", Clock(stats.uptime));
  const auto width = static_cast<size_t>(std::max(view.width, 0));
  if (width > up.size() + 2) {
    title = Fill(std::move(title), width - up.size() - 2, false);
  }
  lines->push_back({absl::StrCat(title, "  ", up), true});
  if (!view.notice.empty()) lines->push_back({Printable(view.notice), true});
  lines->push_back(
      {absl::StrCat("tokens/s  in ", Number(stats.prompt_tokens), "  out ",
                    Number(stats.generated_tokens), "  cached ",
                    Percent(stats.cached), "  steps/s ", Number(stats.steps),
                    "  rows/step ", Number(stats.rows_per_step))});
  lines->push_back(
      {absl::StrCat("requests  running ", stats.running, "  waiting ",
                    stats.waiting, "  preempted/s ", Number(stats.preemptions),
                    "  registered adapters ", stats.registered_adapters)});
  const size_t cells = std::clamp<size_t>(width / 3, 10, 40);
  const auto share = [&](int64_t part) -> std::optional<double> {
    if (stats.kv_blocks_total <= 0) return std::nullopt;
    return static_cast<double>(part) / stats.kv_blocks_total;
  };
  lines->push_back(
      {absl::StrCat("KV        ",
                    Bar(stats.kv_blocks_used, stats.kv_blocks_cached,
                        stats.kv_blocks_total, cells),
                    "  ", Percent(share(stats.kv_blocks_used)), " used  ",
                    Percent(share(stats.kv_blocks_cached)), " cached  of ",
                    stats.kv_blocks_total, " blocks")});
  lines->push_back({absl::StrCat(
      "slots     ", Bar(stats.slots_used, 0, stats.slots_total, cells), "  ",
      stats.slots_used, " of ", stats.slots_total, "  loads/s ",
      Number(stats.adapter_loads), "  evictions/s ",
      Number(stats.adapter_evictions))});
}

// The first of `rows` that `room` lines have room for; the last one tells of
// the others.
void AddRows(std::vector<Line> rows, size_t room, std::vector<Line>* lines) {
  if (rows.size() > room && room > 0) {
    const size_t more = rows.size() - room + 1;
    rows.resize(room - 1);
    rows.push_back({absl::StrCat("+ ", more, " more")});
  }
  rows.resize(std::min(rows.size(), room));
  std::move(rows.begin(), rows.end(), std::back_inserter(*lines));
}

std::vector<Line> TenantRows(const TopStats& stats, const Grid& grid) {
  std::vector<Line> rows;
  for (const TopTenant& tenant : stats.tenants) {
    rows.push_back(
        grid.Row(tenant.name.empty() ? "(all)" : tenant.name,
                 {absl::StrCat(tenant.weight), Percent(tenant.share),
                  Percent(tenant.weight_share), absl::StrCat(tenant.running),
                  absl::StrCat(tenant.waiting), Number(tenant.prompt_tokens),
                  Number(tenant.generated_tokens), Percent(tenant.cached),
                  absl::StrCat(tenant.kv_blocks_used),
                  absl::StrCat(tenant.slots_used), Number(tenant.refused)}));
  }
  return rows;
}

std::vector<Line> AdapterRows(const TopStats& stats, const Grid& grid) {
  std::vector<Line> rows;
  for (const TopAdapter& adapter : stats.adapters) {
    absl::string_view digest = adapter.digest;
    if (const size_t colon = digest.find(':'); colon != digest.npos) {
      digest.remove_prefix(colon + 1);
    }
    rows.push_back(grid.Row(
        adapter.name,
        {Printable(digest.substr(0, kDigestWidth)), Printable(adapter.level),
         absl::StrCat(adapter.running), absl::StrCat(adapter.waiting)}));
  }
  return rows;
}

// Each table gets its titles and a blank line before; tenants get what
// adapters leave of the lines, at least half.
void AddTables(const TopStats& stats, size_t width, size_t room,
               std::vector<Line>* lines) {
  const Grid tenants("TENANT",
                     {{"WEIGHT", 6, 4},
                      {"SHARE", 5},
                      {"FAIR", 5, 1},
                      {"RUN", 4},
                      {"WAIT", 4},
                      {"IN/S", 6, 2},
                      {"OUT/S", 6},
                      {"CACHED", 6, 3},
                      {"KV", 5, 6},
                      {"SLOTS", 5, 7},
                      {"REFUSED/S", 9, 5}},
                     width);
  const Grid adapters(
      "ADAPTER",
      {{"DIGEST", kDigestWidth, 2}, {"LEVEL", 6, 1}, {"RUN", 4}, {"WAIT", 4}},
      width);
  std::vector<Line> tenant_rows = TenantRows(stats, tenants);
  std::vector<Line> adapter_rows = AdapterRows(stats, adapters);
  constexpr size_t kTitles = 2;
  const size_t titles = kTitles * (adapter_rows.empty() ? 1 : 2);
  const size_t rows = room > titles ? room - titles : 0;
  const size_t half = rows - rows / 2;
  const size_t for_adapters =
      std::min(adapter_rows.size(),
               rows - std::min(rows, std::min(tenant_rows.size(), half)));
  const size_t for_tenants = rows - for_adapters;
  lines->push_back({});
  lines->push_back(tenants.Titles());
  AddRows(std::move(tenant_rows), for_tenants, lines);
  if (adapter_rows.empty()) return;
  lines->push_back({});
  lines->push_back(adapters.Titles());
  AddRows(std::move(adapter_rows), for_adapters, lines);
}

}  // namespace

std::string RenderTop(const TopStats& stats, const TopView& view) {
  const auto width = static_cast<size_t>(std::max(view.width, 0));
  const size_t height =
      view.height > 0 ? static_cast<size_t>(view.height)
                      : 8 + stats.tenants.size() + 4 + stats.adapters.size();
  std::vector<Line> lines;
  AddHeader(stats, view, &lines);
  AddTables(stats, width, height > lines.size() ? height - lines.size() : 0,
            &lines);
  lines.resize(std::min(lines.size(), height));
  std::string frame;
  for (const Line& line : lines) {
    std::string text = Cut(line.text, width);
    text.erase(text.find_last_not_of(' ') + 1);
    const bool bold = view.bold && line.title && !text.empty();
    absl::StrAppend(&frame, bold ? "\x1b[1m" : "", text, bold ? "\x1b[m" : "",
                    "\n");
  }
  return frame;
}

}  // namespace descant::cli
