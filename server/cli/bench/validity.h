// A bench times nothing before this check: fast wrong answers are worthless.
#ifndef DESCANT_SERVER_CLI_BENCH_VALIDITY_H_
#define DESCANT_SERVER_CLI_BENCH_VALIDITY_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <string>
#include <vector>

#include "descant/v1/generation.grpc.pb.h"
#include "server/cli/bench/adapter_set.h"
#include "server/cli/bench/load.h"
#include "server/cli/bench/workload.h"

namespace descant::cli {

// What is wrong with the answers to `requests`, the leg's own: a wrong number
// of tokens, or another adapter version than was uploaded. Empty: nothing.
std::string CheckAnswers(const std::vector<v1::GenerateRequest>& requests,
                         const std::vector<StreamedAnswer>& answers,
                         const AdapterDigests& digests);

// Runs the leg once untimed (which also warms the server up), then checks that
// every adapter changes the tokens of the base model, and that 8 sampled
// answers equal the same requests run alone. `*verdict` says what is wrong;
// empty: valid. Other than OK: the check itself could not run.
grpc::Status CheckLeg(v1::GenerationService::Stub* stub, const Leg& leg,
                      uint64_t seed, uint64_t stream, int32_t vocab_size,
                      const AdapterDigests& digests, std::string* verdict);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_BENCH_VALIDITY_H_
