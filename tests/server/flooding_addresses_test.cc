#include "server/flooding_addresses.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <chrono>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/limits.h"

namespace descant {
namespace {

constexpr auto kMoment = std::chrono::milliseconds(1);

TEST(FloodingAddressesTest, RefusedForAMoment) {
  FloodingAddresses floods;
  const MonotonicTime now{std::chrono::seconds(5)};
  EXPECT_FALSE(floods.Refuses("a", now));
  floods.Add("a", now);
  EXPECT_TRUE(floods.Refuses("a", now));
  EXPECT_TRUE(floods.Refuses("a", now + limits::kFloodPenalty - kMoment));
  EXPECT_FALSE(floods.Refuses("b", now));
  EXPECT_FALSE(floods.Refuses("a", now + limits::kFloodPenalty));
  EXPECT_FALSE(floods.Refuses("a", now));  // forgotten
}

TEST(FloodingAddressesTest, RemembersSoMany) {
  FloodingAddresses floods;
  MonotonicTime now{std::chrono::seconds(5)};
  for (size_t i = 0; i < limits::kMaxFloodingAddresses; ++i) {
    floods.Add(absl::StrCat(i), now);
  }
  floods.Add("one more", now);
  EXPECT_FALSE(floods.Refuses("one more", now));
  EXPECT_TRUE(floods.Refuses("17", now));
  now += limits::kFloodPenalty;
  floods.Add("one more", now);
  EXPECT_TRUE(floods.Refuses("one more", now));
}

TEST(FloodingAddressesTest, AnAddressHasNoPort) {
  sockaddr_storage peer{};
  auto* four = reinterpret_cast<sockaddr_in*>(&peer);
  four->sin_family = AF_INET;
  four->sin_port = 1;
  inet_pton(AF_INET, "10.1.2.3", &four->sin_addr);
  const std::string first = AddressBytes(peer);
  four->sin_port = 2;
  EXPECT_EQ(AddressBytes(peer), first);
  EXPECT_EQ(first, std::string("\x0a\x01\x02\x03"));
  auto* six = reinterpret_cast<sockaddr_in6*>(&peer);
  six->sin6_family = AF_INET6;
  inet_pton(AF_INET6, "2001:db8::1", &six->sin6_addr);
  EXPECT_EQ(AddressBytes(peer).size(), 16u);
  peer.ss_family = AF_UNIX;
  EXPECT_EQ(AddressBytes(peer), "");
  // One without an address is never refused.
  FloodingAddresses floods;
  floods.Add("", MonotonicTime());
  EXPECT_FALSE(floods.Refuses("", MonotonicTime()));
}

}  // namespace
}  // namespace descant
