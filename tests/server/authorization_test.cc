#include "server/authorization.h"

#include <set>
#include <string>

#include "descant/v1/adapter.pb.h"
#include "descant/v1/admin.pb.h"
#include "descant/v1/generation.pb.h"
#include "gtest/gtest.h"

namespace descant {
namespace {

// Names of all RPCs of the file's services.
std::set<std::string> RpcsOf(const google::protobuf::FileDescriptor* file) {
  std::set<std::string> names;
  for (int s = 0; s < file->service_count(); ++s) {
    for (int m = 0; m < file->service(s)->method_count(); ++m) {
      EXPECT_TRUE(names.insert(file->service(s)->method(m)->name()).second);
    }
  }
  EXPECT_FALSE(names.empty());
  return names;
}

TEST(AuthorizationTest, EveryRpcHasItsRoles) {
  const auto* generation = v1::GenerateRequest::descriptor()->file();
  const auto* adapters = v1::GetAdapterRequest::descriptor()->file();
  const auto* admin = v1::GetStatsRequest::descriptor()->file();
  std::set<std::string> all;
  for (const auto* file : {generation, adapters, admin}) {
    for (const std::string& rpc : RpcsOf(file)) {
      EXPECT_FALSE(RolesFor(rpc).empty()) << rpc << " may be called by nobody";
      EXPECT_EQ(RolesFor(rpc).HasAny(Role::kOperator), file == admin) << rpc;
      EXPECT_TRUE(all.insert(rpc).second)
          << rpc << ": names must differ between services too";
    }
  }
}

TEST(AuthorizationTest, WhatIsNotInTheTableIsDenied) {
  for (const char* rpc : {"", "generate", "Generate ", "Shutdown"}) {
    EXPECT_TRUE(RolesFor(rpc).empty()) << rpc;
  }
}

}  // namespace
}  // namespace descant
