// What the page of metrics says of hot merge.
#ifndef DESCANT_SERVER_MERGE_METRICS_H_
#define DESCANT_SERVER_MERGE_METRICS_H_

#include <cstddef>
#include <vector>

#include "prometheus/metric_family.h"
#include "runtime/engine.h"

namespace descant {

// All families but those of adapters are there with hot merge off too. At most
// `max_series` adapters have series, those with the most merged steps.
void CollectMerges(const MergeStats& stats, size_t max_series,
                   std::vector<prometheus::MetricFamily>* families);

}  // namespace descant

#endif  // DESCANT_SERVER_MERGE_METRICS_H_
