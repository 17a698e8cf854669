// A leg whose requests come from a file, through `descant run`.
#ifndef DESCANT_SERVER_CLI_BENCH_FILE_LEG_H_
#define DESCANT_SERVER_CLI_BENCH_FILE_LEG_H_

#include <vector>

#include "absl/status/status.h"
#include "descant/v1/generation.pb.h"
#include "server/cli/bench/load.h"
#include "server/cli/connection.h"

namespace descant::cli {

// Writes the requests as lines of a file, runs it as `descant run` does with
// its default concurrency, and reads the answers back. The time is from before
// the first file is opened to after the last is closed; answers have no TTFT
// and no ITL. An error says which line failed, or what of the files did.
absl::Status RunFromFile(const Connection& connection,
                         const std::vector<v1::GenerateRequest>& requests,
                         LoadResult* result);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_BENCH_FILE_LEG_H_
