#include "runtime/base/failpoint.h"

#include <unistd.h>

#include <csignal>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/base/mutex.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

struct ArmedPoint {
  FailAction action;
  int32_t skip;
};

struct Table {
  Mutex mutex;
  absl::flat_hash_map<std::string, ArmedPoint> points ABSL_GUARDED_BY(mutex);
};

Table& GlobalTable() {
  static Table* table = new Table;
  return *table;
}

absl::Status ArmOne(absl::string_view item) {
  const std::vector<std::string> sides =
      absl::StrSplit(item, absl::MaxSplits('=', 1));
  if (sides.size() != 2 || sides[0].empty()) {
    return absl::InvalidArgumentError("failpoint: want name=action");
  }
  const std::vector<std::string> parts = absl::StrSplit(sides[1], ':');
  int32_t skip = 0;
  if (parts.size() > 2 ||
      (parts.size() == 2 && (!absl::SimpleAtoi(parts[1], &skip) || skip < 0))) {
    return absl::InvalidArgumentError("failpoint: want action:skip");
  }
  if (parts[0] != "kill" && parts[0] != "error") {
    return absl::InvalidArgumentError("failpoint: want kill or error");
  }
  ArmFailpoint(sides[0],
               parts[0] == "kill" ? FailAction::kKill : FailAction::kError,
               skip);
  return absl::OkStatus();
}

}  // namespace

namespace internal {

std::atomic<int32_t> armed_failpoints{0};

absl::Status HitFailpoint(absl::string_view name) {
  Table& table = GlobalTable();
  MutexLock lock(&table.mutex);
  const auto it = table.points.find(name);
  if (it == table.points.end()) return absl::OkStatus();
  if (it->second.skip-- > 0) return absl::OkStatus();
  if (it->second.action == FailAction::kKill) {
    ::kill(::getpid(), SIGKILL);
    ::pause();
  }
  table.points.erase(it);
  armed_failpoints.store(static_cast<int32_t>(table.points.size()),
                         std::memory_order_relaxed);
  return absl::DataLossError(absl::StrCat("failpoint ", name));
}

}  // namespace internal

void ArmFailpoint(absl::string_view name, FailAction action, int32_t skip) {
  Table& table = GlobalTable();
  MutexLock lock(&table.mutex);
  table.points[std::string(name)] = {action, skip};
  internal::armed_failpoints.store(static_cast<int32_t>(table.points.size()),
                                   std::memory_order_relaxed);
}

void DisarmFailpoints() {
  Table& table = GlobalTable();
  MutexLock lock(&table.mutex);
  table.points.clear();
  internal::armed_failpoints.store(0, std::memory_order_relaxed);
}

absl::Status ArmFailpointsFromText(absl::string_view text) {
  for (const absl::string_view item :
       absl::StrSplit(text, ',', absl::SkipEmpty())) {
    DESCANT_RETURN_IF_ERROR(ArmOne(item));
  }
  return absl::OkStatus();
}

}  // namespace descant
