#include "server/cli/bench/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "runtime/base/check.h"

namespace descant::cli {

double Quantile(std::vector<double> samples, double q) {
  DESCANT_CHECK(!samples.empty());
  std::sort(samples.begin(), samples.end());
  const double position = q * static_cast<double>(samples.size() - 1);
  const auto below = static_cast<size_t>(position);
  const size_t above = std::min(below + 1, samples.size() - 1);
  const double share = position - static_cast<double>(below);
  return samples[below] + share * (samples[above] - samples[below]);
}

MedianInterval MedianOf(std::vector<double> samples) {
  DESCANT_CHECK(!samples.empty());
  std::sort(samples.begin(), samples.end());
  MedianInterval result{.median = Quantile(samples, 0.5)};
  // The interval [x(k), x(n+1-k)], counted from 1, misses the median with
  // probability 2 P(Binomial(n, 1/2) < k). Take the largest k within 5 %.
  const size_t n = samples.size();
  double term = std::pow(0.5, static_cast<double>(n));  // C(n, 0) / 2^n
  double below = 0;
  size_t k = 0;
  while (2 * (below + term) <= 0.05) {
    below += term;
    term *= static_cast<double>(n - k) / static_cast<double>(k + 1);
    ++k;
  }
  if (k > 0) {
    result.low = samples[k - 1];
    result.high = samples[n - k];
  }
  return result;
}

}  // namespace descant::cli
