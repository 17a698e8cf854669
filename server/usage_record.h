// One generation as a line of the usage log; server/USAGE.md describes it.
#ifndef DESCANT_SERVER_USAGE_RECORD_H_
#define DESCANT_SERVER_USAGE_RECORD_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "absl/strings/string_view.h"
#include "runtime/engine.h"

namespace descant {

// A generation that the engine took and that has ended.
struct UsageRecord {
  double unix_seconds = 0;  // of its end
  std::string tenant;       // "" where tenants are off
  std::string adapter;      // its AdapterLabel; "" is the base model
  std::string digest;       // "" for the base model
  RequestId request_id = 0;
  std::string client_request_id;  // "": the client gave none
  Duration total{};               // from its arrival
};

// All of `record` and the counts, times and outcome of `result`; no text of
// prompt or answer.
nlohmann::ordered_json UsageLine(const UsageRecord& record,
                                 const RequestResult& result);

}  // namespace descant

#endif  // DESCANT_SERVER_USAGE_RECORD_H_
