// What a process takes of the machine, from /proc.
#ifndef DESCANT_TESTS_E2E_PROCESS_USAGE_H_
#define DESCANT_TESTS_E2E_PROCESS_USAGE_H_

#include <sys/types.h>

#include <cstdint>
#include <vector>

namespace descant::e2e {

struct ProcessUsage {
  int64_t resident_bytes = 0;
  int threads = 0;
  int open_files = 0;
};

// All 0 for a process that is not there.
ProcessUsage UsageOf(pid_t pid);

// A line through points by least squares.
struct Line {
  double slope = 0;
  double slope_error = 0;  // standard error of the slope
};

// REQUIRES: x and y of equal size, at least 3, x not all the same.
Line FitLine(const std::vector<double>& x, const std::vector<double>& y);

// The `q` quantile, 0 to 1, by rank; 0 for none.
double Quantile(std::vector<double> values, double q);

}  // namespace descant::e2e

#endif  // DESCANT_TESTS_E2E_PROCESS_USAGE_H_
