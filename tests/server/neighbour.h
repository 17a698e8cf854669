// Somebody else's calls, beside what a test does to the server.
#ifndef DESCANT_TESTS_SERVER_NEIGHBOUR_H_
#define DESCANT_TESTS_SERVER_NEIGHBOUR_H_

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/server/test_server.h"

namespace descant {

// Generates with `adapter` again and again until it is destroyed, and fails the
// test where its tokens are not `expected`.
class Neighbour {
 public:
  Neighbour(TestServer* server, const std::string& adapter,
            const std::vector<int32_t>& expected)
      : thread_([this, server, adapter, expected] {
          while (!stopping_) {
            const auto count = static_cast<int>(expected.size());
            wrong_ += server->Tokens(adapter, count) != expected;
            ++calls_;
          }
        }) {}
  ~Neighbour() {
    stopping_ = true;
    thread_.join();
    EXPECT_GT(calls_, 0);
    EXPECT_EQ(wrong_, 0) << "of " << calls_ << " calls of a neighbour";
  }
  Neighbour(const Neighbour&) = delete;
  Neighbour& operator=(const Neighbour&) = delete;

 private:
  std::atomic<bool> stopping_{false};
  std::atomic<int> calls_{0};
  std::atomic<int> wrong_{0};
  std::thread thread_;
};

}  // namespace descant

#endif  // DESCANT_TESTS_SERVER_NEIGHBOUR_H_
