// One run of the `descant` binary.
#ifndef DESCANT_TESTS_E2E_CLI_RUN_H_
#define DESCANT_TESTS_E2E_CLI_RUN_H_

#include <string>
#include <vector>

namespace descant::e2e {

struct CliRun {
  int exit_code = -1;  // it did not start, or did not end within 280 s
  std::string out;
  std::string err;
};

// The file's content; "" where it cannot be read.
std::string ReadAll(const std::string& path);

// Runs `descant` with `input` on its standard input, `environment` ("K=V")
// beside the test's own; its files are in `folder`.
CliRun RunCli(const std::vector<std::string>& arguments,
              const std::vector<std::string>& environment,
              const std::string& folder, const std::string& input = "");

}  // namespace descant::e2e

#endif  // DESCANT_TESTS_E2E_CLI_RUN_H_
