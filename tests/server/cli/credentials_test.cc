#include "server/cli/credentials.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace descant::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class CredentialsTest : public ::testing::Test {
 protected:
  CredentialsTest() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "credentials-XXXXXX")
            .string();
    folder_ = mkdtemp(pattern.data());
    unsetenv("DESCANT_API_KEY");
  }
  ~CredentialsTest() override { std::filesystem::remove_all(folder_); }

  std::string Write(const std::string& name, const std::string& content) {
    const std::string path = folder_ + "/" + name;
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }

  std::string folder_;
};

TEST_F(CredentialsTest, WithoutOptionsThereIsNoTls) {
  const auto credentials = LoadCredentials({});
  ASSERT_TRUE(credentials.ok()) << credentials.status();
  EXPECT_EQ(credentials->tls, nullptr);
  EXPECT_EQ(credentials->api_key, "");
}

TEST_F(CredentialsTest, EachOptionTurnsTlsOn) {
  const std::string certificate =
      Write("crt", "-----BEGIN CERTIFICATE-----\nAAAA\n");
  const std::string key = Write("key", "-----BEGIN PRIVATE KEY-----\nAAAA\n");
  CredentialOptions tls;
  tls.tls = true;
  CredentialOptions ca;
  ca.ca = certificate;
  CredentialOptions own;
  own.cert = certificate;
  own.key = key;
  CredentialOptions name;
  name.server_name = "descant.example";
  for (const CredentialOptions& options : {tls, ca, own, name}) {
    const auto credentials = LoadCredentials(options);
    ASSERT_TRUE(credentials.ok()) << credentials.status();
    EXPECT_NE(credentials->tls, nullptr);
  }
  EXPECT_EQ(LoadCredentials(name)->server_name, "descant.example");
}

TEST_F(CredentialsTest, WhatIsWrongIsNamedAndNotRepeated) {
  const std::string certificate =
      Write("crt", "-----BEGIN CERTIFICATE-----\nAAAA\n");
  CredentialOptions half;
  half.cert = certificate;
  EXPECT_THAT(std::string(LoadCredentials(half).status().message()),
              HasSubstr("--cert, --key"));
  CredentialOptions swapped;
  swapped.cert = certificate;
  swapped.key = Write("secret", "SECRET");
  const absl::Status status = LoadCredentials(swapped).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("--key: "));
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("SECRET")));
  CredentialOptions missing;
  missing.ca = folder_ + "/none";
  EXPECT_TRUE(absl::IsNotFound(LoadCredentials(missing).status()));
}

}  // namespace
}  // namespace descant::cli
