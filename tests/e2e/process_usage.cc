#include "tests/e2e/process_usage.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"

namespace descant::e2e {

ProcessUsage UsageOf(pid_t pid) {
  ProcessUsage usage;
  const std::string folder = absl::StrCat("/proc/", pid);
  std::ifstream statm(folder + "/statm");
  int64_t pages = 0;
  int64_t resident = 0;
  if (statm >> pages >> resident) {
    usage.resident_bytes = resident * sysconf(_SC_PAGESIZE);
  }
  const auto count = [&folder](const char* what) {
    std::error_code error;
    const std::filesystem::directory_iterator entries(folder + what, error);
    return error ? 0 : static_cast<int>(std::distance(begin(entries), {}));
  };
  usage.threads = count("/task");
  usage.open_files = count("/fd");
  return usage;
}

Line FitLine(const std::vector<double>& x, const std::vector<double>& y) {
  DESCANT_CHECK(x.size() == y.size() && x.size() >= 3);
  const double n = static_cast<double>(x.size());
  double mean_x = 0;
  double mean_y = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    mean_x += x[i] / n;
    mean_y += y[i] / n;
  }
  double xx = 0;
  double xy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    xx += (x[i] - mean_x) * (x[i] - mean_x);
    xy += (x[i] - mean_x) * (y[i] - mean_y);
  }
  DESCANT_CHECK(xx > 0);
  Line line;
  line.slope = xy / xx;
  double squares = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double rest = y[i] - mean_y - line.slope * (x[i] - mean_x);
    squares += rest * rest;
  }
  line.slope_error = std::sqrt(squares / (n - 2) / xx);
  return line;
}

double Quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double rank = q * static_cast<double>(values.size() - 1);
  return values[static_cast<size_t>(std::lround(rank))];
}

}  // namespace descant::e2e
