// The server's Prometheus page.
#ifndef DESCANT_TESTS_E2E_METRICS_PAGE_H_
#define DESCANT_TESTS_E2E_METRICS_PAGE_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"

namespace descant::e2e {

// Body of GET http://127.0.0.1:<port><path>; INVALID_ARGUMENT for any status
// but 200, UNAVAILABLE where nobody listens.
absl::StatusOr<std::string> HttpGet(int port, const std::string& path);

// Value of every series, by its text: "name" or "name{label=\"value\",...}".
using MetricsPage = std::map<std::string, double>;

// GET http://127.0.0.1:<port>/metrics, parsed. INVALID_ARGUMENT for a line
// that is no comment and no sample.
absl::StatusOr<MetricsPage> Scrape(int port);

// Sum over every series of `name` whose labels contain `label` (`key="value"`;
// empty: all). Histogram parts are series of their own: "name_count".
double Sum(const MetricsPage& page, const std::string& name,
           const std::string& label = "");

// Whether there is any series of that name.
bool Has(const MetricsPage& page, const std::string& name);

}  // namespace descant::e2e

#endif  // DESCANT_TESTS_E2E_METRICS_PAGE_H_
