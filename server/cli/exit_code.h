// Exit codes of `descant`, after sysexits.h. --help prints this list.
#ifndef DESCANT_SERVER_CLI_EXIT_CODE_H_
#define DESCANT_SERVER_CLI_EXIT_CODE_H_

namespace descant::cli {

enum ExitCode : int {
  kExitOk = 0,
  kExitInvalid = 1,      // `bench`: a wrong answer; `admin verify`: damage
  kExitUsage = 64,       // the command line
  kExitRefused = 65,     // the server refuses the request as it stands
  kExitNotFound = 66,    // no such adapter, or a local file can't be read
  kExitInternal = 70,    // a fault of the server or of this program
  kExitRetry = 75,       // unreachable, overloaded or out of time
  kExitPermission = 77,  // no or wrong credentials
};

inline constexpr char kExitCodeHelp[] =
    "Exit codes:\n"
    "  0   done\n"
    "  1   bench: a wrong answer (INVALID); admin verify: damage\n"
    "  64  bad command line\n"
    "  65  the server refuses the request as it stands\n"
    "  66  no such adapter, or a local file can't be read\n"
    "  70  internal fault\n"
    "  75  server unreachable, overloaded or out of time: try again later\n"
    "  77  no or wrong credentials\n";

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_EXIT_CODE_H_
