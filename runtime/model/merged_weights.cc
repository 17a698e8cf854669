#include "runtime/model/merged_weights.h"

#include <algorithm>

namespace descant {

void LogprobDifference::Add(const LogprobDifference& other) {
  outputs += other.outputs;
  finite = finite && other.finite;
  largest = std::max(largest, other.largest);
  flips += other.flips;
  widest_flip = std::max(widest_flip, other.widest_flip);
}

}  // namespace descant
