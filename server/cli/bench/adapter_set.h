// The random adapters of a bench, made here and uploaded like a tenant's.
#ifndef DESCANT_SERVER_CLI_BENCH_ADAPTER_SET_H_
#define DESCANT_SERVER_CLI_BENCH_ADAPTER_SET_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "descant/v1/generation.pb.h"
#include "server/cli/bench/workload.h"
#include "server/cli/connection.h"

namespace descant::cli {

// Digests by adapter name.
using AdapterDigests = std::map<std::string, std::string>;

// What registering adapters took.
struct Registration {
  int adapters = 0;
  double seconds = 0;  // of the uploads, without making the adapters
};

// Makes and uploads every adapter that `legs` need: A ~ N(0, 0.02), B ~ N(0,
// 0.01), bf16, alpha 16 x rank, one seed per adapter drawn from `seed`.
// Adapters of the same name that are there already are replaced. Adds what was
// uploaded to `digests`, also when it fails half-way.
grpc::Status UploadBenchAdapters(const Connection& connection,
                                 const v1::GetModelResponse& model,
                                 const std::vector<Leg>& legs, uint64_t seed,
                                 AdapterDigests* digests,
                                 Registration* registration);

// Has each adapter that a leg wants loaded and unused answer once.
grpc::Status LoadIdleAdapters(const Connection& connection,
                              const std::vector<Leg>& legs, int32_t vocab_size);

// Deletes them, whatever happened to some of them since.
void DeleteBenchAdapters(const Connection& connection,
                         const AdapterDigests& digests);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_BENCH_ADAPTER_SET_H_
