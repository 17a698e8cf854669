#include "tests/e2e/cli_run.h"

#include <chrono>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "server/cli/child_process.h"
#include "tests/e2e/server_process.h"

namespace descant::e2e {

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

CliRun RunCli(const std::vector<std::string>& arguments,
              const std::vector<std::string>& environment,
              const std::string& folder, const std::string& input) {
  const std::string base = folder + "/run";
  std::ofstream(base + ".in") << input;
  // The shell parts the two outputs; no argument passes through its parser.
  std::vector<std::string> argv = {
      "/bin/sh", "-c",
      absl::StrCat("exec \"$0\" \"$@\" <", base, ".in >", base, ".out 2>", base,
                   ".err"),
      BinaryPath("descant")};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  auto child = cli::ChildProcess::Start(argv, environment, base + ".log");
  CliRun run;
  if (!child.ok()) {
    run.err = child.status().ToString();
    return run;
  }
  run.exit_code = child->Wait(std::chrono::seconds(280)).value_or(-1);
  run.out = ReadAll(base + ".out");
  run.err = ReadAll(base + ".err");
  return run;
}

}  // namespace descant::e2e
