// Makes writes beyond a size fail, as on a full disk.
#ifndef DESCANT_TESTS_TESTING_FILE_SIZE_LIMIT_H_
#define DESCANT_TESTS_TESTING_FILE_SIZE_LIMIT_H_

#include <signal.h>
#include <sys/resource.h>

#include <cstdint>

#include "runtime/base/check.h"

namespace descant {

// Of all files of the process, while this lives: write() beyond `bytes` is
// EFBIG.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(uint64_t bytes) {
    signal(SIGXFSZ, SIG_IGN);
    DESCANT_CHECK(getrlimit(RLIMIT_FSIZE, &before_) == 0);
    const rlimit limit = {bytes, before_.rlim_max};
    DESCANT_CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &before_); }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
};

}  // namespace descant

#endif  // DESCANT_TESTS_TESTING_FILE_SIZE_LIMIT_H_
