// Order statistics for benchmark reports.
#ifndef DESCANT_SERVER_CLI_BENCH_STATISTICS_H_
#define DESCANT_SERVER_CLI_BENCH_STATISTICS_H_

#include <optional>
#include <vector>

namespace descant::cli {

// The q-quantile, 0 <= q <= 1, linear between the two nearest samples.
// REQUIRES: samples is not empty.
double Quantile(std::vector<double> samples, double q);

// A median and the borders of its interval of at least 95 % confidence: the
// two order statistics given by the binomial distribution, so no assumption
// about the shape of the noise. Fewer than six samples have no such interval.
struct MedianInterval {
  double median = 0;
  std::optional<double> low;
  std::optional<double> high;
};

// REQUIRES: samples is not empty.
MedianInterval MedianOf(std::vector<double> samples);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_BENCH_STATISTICS_H_
