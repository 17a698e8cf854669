// Families of metrics that are made at each scrape.
#ifndef DESCANT_SERVER_METRIC_FAMILY_H_
#define DESCANT_SERVER_METRIC_FAMILY_H_

#include <map>
#include <string>
#include <vector>

#include "prometheus/metric_family.h"

namespace descant {

using MetricLabels = std::map<std::string, std::string>;

prometheus::MetricFamily MakeFamily(const std::string& name,
                                    const std::string& help,
                                    prometheus::MetricType type);

// `family` is of counters or gauges.
void AddSeries(double value, const MetricLabels& labels,
               prometheus::MetricFamily* family);

// A family of one series.
void AddSingle(const std::string& name, const std::string& help,
               prometheus::MetricType type, double value,
               const MetricLabels& labels,
               std::vector<prometheus::MetricFamily>* families);

}  // namespace descant

#endif  // DESCANT_SERVER_METRIC_FAMILY_H_
