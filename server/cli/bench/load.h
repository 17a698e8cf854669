// Closed-loop and open-loop loads of streamed generations from one thread.
#ifndef DESCANT_SERVER_CLI_BENCH_LOAD_H_
#define DESCANT_SERVER_CLI_BENCH_LOAD_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <string>
#include <vector>

#include "descant/v1/generation.grpc.pb.h"

namespace descant::cli {

struct StreamedAnswer {
  std::vector<int32_t> tokens;
  std::string adapter_digest;
  // From the call to the first token; in an open loop from the time at which
  // the request was due, however late it was sent.
  double ttft_ms = 0;
  double late_ms = 0;  // open loop: sent so long after it was due
  // From each token to the next. Tokens that come in one message share its
  // gap evenly.
  std::vector<double> itl_ms;
};

struct LoadResult {
  std::vector<StreamedAnswer> answers;  // in the order of the requests
  double seconds = 0;                   // first call to last end

  uint64_t OutputTokens() const;
  double OutputTokensPerSecond() const;
};

// Sends every request once, `in_flight` at a time: the next starts when one
// ends. One thread and one completion queue, so that the server keeps the
// machine. The first error ends the load: the calls that run are cancelled,
// and `*result` is as it came to be.
grpc::Status RunLoad(v1::GenerationService::Stub* stub,
                     const std::vector<v1::GenerateRequest>& requests,
                     int in_flight, LoadResult* result);

// Sends requests[i] `arrivals[i]` seconds after the start, whatever has become
// of the others, so that a server that falls behind is not asked less
// (coordinated omission). `arrivals` ascends. Errors as above.
grpc::Status RunOpenLoad(v1::GenerationService::Stub* stub,
                         const std::vector<v1::GenerateRequest>& requests,
                         const std::vector<double>& arrivals,
                         LoadResult* result);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_BENCH_LOAD_H_
