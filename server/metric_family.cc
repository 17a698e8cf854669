#include "server/metric_family.h"

#include <utility>

namespace descant {

using prometheus::MetricFamily;
using prometheus::MetricType;

MetricFamily MakeFamily(const std::string& name, const std::string& help,
                        MetricType type) {
  MetricFamily family;
  family.name = name;
  family.help = help;
  family.type = type;
  return family;
}

void AddSeries(double value, const MetricLabels& labels, MetricFamily* family) {
  prometheus::ClientMetric metric;
  for (const auto& [key, text] : labels) metric.label.push_back({key, text});
  (family->type == MetricType::Counter ? metric.counter.value
                                       : metric.gauge.value) = value;
  family->metric.push_back(std::move(metric));
}

void AddSingle(const std::string& name, const std::string& help,
               MetricType type, double value, const MetricLabels& labels,
               std::vector<MetricFamily>* families) {
  families->push_back(MakeFamily(name, help, type));
  AddSeries(value, labels, &families->back());
}

}  // namespace descant
