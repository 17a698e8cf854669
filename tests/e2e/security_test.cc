// The real binaries with TLS, client certificates, tokens and an audit log.
#include <gtest/gtest.h>

#include <chrono>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "adapters/identity.h"
#include "server/cli/child_process.h"
#include "server/cli/exit_code.h"
#include "tests/e2e/client.h"
#include "tests/e2e/server_process.h"
#include "tests/server/certificates.h"
#include "tests/server/tokens.h"

namespace descant::e2e {
namespace {

using Json = nlohmann::json;
using Arguments = std::vector<std::string>;

constexpr char kKey[] = "dk_key-of-the-end-to-end-test";

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

struct CliRun {
  int exit_code = -1;
  std::string out;  // standard output and error
};

class SecurityTest : public testing::Test {
 protected:
  void SetUp() override {
    Write("server.crt", "server.key", authority_.Issue("DNS:descant.example"));
    Write("acme.crt", "acme.key",
          authority_.Issue("URI:spiffe://example.org/acme"));
    WriteFileAtomically(Path("ca.crt"), authority_.certificate());
    WriteFileAtomically(Path("id.pem"), signer_.public_pem());
    WriteFileAtomically(Path("key"), kKey);
    WriteFileAtomically(
        Path("tenants.yaml"),
        absl::StrCat(
            "tenants:\n- {id: acme, spiffe-ids: ['spiffe://example.org/acme'], "
            "keys: [{id: k1, sha256: ",
            HexOf(Sha256Of(kKey)), "}]}\n",
            "jwt: [{issuer: 'https://id', audience: descant, keys: "
            "[{kid: k1, algorithm: RS256, file: id.pem}]}]\n"));
    ServerOptions options;
    options.flags = {"--tls-cert=" + Path("server.crt"),
                     "--tls-key=" + Path("server.key"),
                     "--tls-client-ca=" + Path("ca.crt"),
                     "--tenants=" + Path("tenants.yaml"),
                     "--audit-log=" + Path("audit.jsonl")};
    auto server = ServerProcess::Launch(options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    CliRun run;
    for (int i = 0; i < 600 && run.exit_code != cli::kExitOk; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      run = Run(Trusting({"--api-key-file", Path("key"), "models"}));
    }
    ASSERT_EQ(run.exit_code, cli::kExitOk) << run.out << server_->Log();
  }

  std::string Path(const std::string& name) const {
    return folder_.path() + "/" + name;
  }
  void Write(const std::string& certificate, const std::string& key,
             const PemPair& pair) {
    WriteFileAtomically(Path(certificate), pair.certificate);
    WriteFileAtomically(Path(key), pair.key);
  }

  Arguments Trusting(const Arguments& more) const {
    Arguments arguments = {"--ca", Path("ca.crt"), "--server-name",
                           "descant.example"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  CliRun Run(const Arguments& arguments,
             const std::vector<std::string>& environment = {}) const {
    Arguments argv = {BinaryPath("descant"), "--target", server_->target()};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    const std::string log = Path("cli.log");
    std::filesystem::remove(log);
    auto child = cli::ChildProcess::Start(argv, environment, log);
    EXPECT_TRUE(child.ok()) << child.status();
    CliRun run;
    if (!child.ok()) return run;
    run.exit_code = child->Wait(std::chrono::seconds(120)).value_or(-1);
    run.out = ReadAll(log);
    return run;
  }

  const TemporaryFolder folder_;
  TestAuthority authority_{"authority"};
  const TokenSigner signer_{TokenSignature::kRs256};
  std::unique_ptr<ServerProcess> server_;
};

TEST_F(SecurityTest, TheClientAndTheServerKnowEachOther) {
  const std::string token = signer_.Sign(
      R"({"alg":"RS256","typ":"JWT","kid":"k1"})",
      absl::StrCat(R"({"iss":"https://id","aud":"descant","tenant":"acme",)",
                   R"("exp":)", std::time(nullptr) + 600, "}"));
  const Arguments generate = {"generate", "--prompt", "x", "--max-tokens", "2"};
  const auto with = [&](Arguments arguments) {
    arguments.insert(arguments.end(), generate.begin(), generate.end());
    return Trusting(arguments);
  };
  // A key, a certificate, a token.
  EXPECT_EQ(Run(with({"--api-key-file", Path("key")})).exit_code, 0);
  EXPECT_EQ(Run(with({"--cert", Path("acme.crt"), "--key", Path("acme.key")}))
                .exit_code,
            0);
  EXPECT_EQ(Run(with({}), {"DESCANT_API_KEY=" + token}).exit_code, 0);
  // By the environment alone.
  EXPECT_EQ(Run(generate, {"DESCANT_TLS_CA=" + Path("ca.crt"),
                           "DESCANT_TLS_CERT=" + Path("acme.crt"),
                           "DESCANT_TLS_KEY=" + Path("acme.key"),
                           "DESCANT_TLS_SERVER_NAME=descant.example"})
                .exit_code,
            0);
  // Nobody; no TLS; another name than the certificate's; other CAs.
  const CliRun nobody = Run(with({}));
  EXPECT_NE(nobody.exit_code, 0);
  EXPECT_TRUE(absl::StrContains(nobody.out, "UNAUTHENTICATED")) << nobody.out;
  EXPECT_NE(Run(generate).exit_code, 0);
  EXPECT_NE(
      Run({"--ca", Path("ca.crt"), "--api-key-file", Path("key"), "models"})
          .exit_code,
      0);
  EXPECT_NE(Run({"--tls", "--server-name", "descant.example", "--api-key-file",
                 Path("key"), "models"})
                .exit_code,
            0);
  EXPECT_EQ(Run(Trusting({"--cert", Path("acme.crt"), "models"})).exit_code,
            cli::kExitUsage);
  EXPECT_EQ(Run({"--ca", Path("none.crt"), "models"}).exit_code,
            cli::kExitNotFound);

  ASSERT_EQ(server_->Terminate(), 0);
  // Neither log has any of the secrets.
  const std::string log = server_->Log();
  const std::string audit = ReadAll(Path("audit.jsonl"));
  const std::string signature = token.substr(token.rfind('.') + 1);
  for (const std::string& text : {log, audit}) {
    for (const std::string& secret :
         {std::string(kKey), signature, HexOf(Sha256Of(kKey)),
          std::string("PRIVATE KEY")}) {
      EXPECT_FALSE(absl::StrContains(text, secret)) << secret;
    }
  }
  std::vector<std::string> events;
  std::istringstream lines(audit);
  for (std::string line; std::getline(lines, line);) {
    events.push_back(Json::parse(line)["event"]);
  }
  ASSERT_EQ(events.size(), 3u) << audit;
  EXPECT_EQ(events,
            (std::vector<std::string>{"start", "auth_failure", "drain"}));
}

TEST_F(SecurityTest, ANewCertificateIsTakenWhileItServes) {
  const Arguments models = Trusting({"--api-key-file", Path("key"), "models"});
  TestAuthority next("next");
  Write("server.crt", "server.key", next.Issue("DNS:descant.example"));
  // The client trusts the old authority alone: it fails once the new one shows.
  int exit_code = 0;
  for (int i = 0; i < 100 && exit_code == 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    exit_code = Run(models).exit_code;
  }
  EXPECT_NE(exit_code, 0);
  WriteFileAtomically(Path("ca.crt"), next.certificate());
  EXPECT_EQ(Run(models).exit_code, 0);
  EXPECT_TRUE(absl::StrContains(server_->Log(), "TLS: certificate read"));
  EXPECT_EQ(server_->Terminate(), 0);
}

// What gRPC itself never closes is seen behind the decryption, too.
TEST_F(SecurityTest, FloodsInsideTls) {
  const std::string port =
      std::vector<std::string>(absl::StrSplit(server_->target(), ':'))[1];
  for (const char* name : {"rapid-reset", "settings-flood",
                           "continuation-flood", "streams-unacknowledged"}) {
    const std::string log = Path("flood.json");
    std::filesystem::remove(log);
    auto child = cli::ChildProcess::Start(
        {"/usr/bin/python3", SourcePath("tests/e2e/hostile_http2.py"), name,
         port, "1", "--tls"},
        {}, log);
    ASSERT_TRUE(child.ok()) << child.status();
    ASSERT_EQ(child->Wait(std::chrono::seconds(120)).value_or(-1), 0)
        << ReadAll(log);
    const Json report = Json::parse(ReadAll(log));
    EXPECT_GT(report.value("closed", 0), 0) << name << " " << report;
    EXPECT_EQ(
        Run(Trusting({"--api-key-file", Path("key"), "models"})).exit_code, 0)
        << name;
  }
  EXPECT_TRUE(absl::StrContains(server_->Log(), "its client flooded it"))
      << server_->Log();
  EXPECT_EQ(server_->Terminate(), 0);
}

TEST(SecurityStartTest, ABadCertificateIsAnErrorOfConfiguration) {
  const TemporaryFolder folder;
  TestAuthority authority("authority");
  const PemPair expired = authority.Issue("DNS:a", {-600, -300});
  WriteFileAtomically(folder.path() + "/tls.crt", expired.certificate);
  WriteFileAtomically(folder.path() + "/tls.key", expired.key);
  ServerOptions options;
  options.flags = {"--tls-cert=" + folder.path() + "/tls.crt",
                   "--tls-key=" + folder.path() + "/tls.key"};
  auto server = ServerProcess::Launch(options);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ((*server)->Wait(std::chrono::seconds(60)), 78);
  EXPECT_TRUE(absl::StrContains((*server)->Log(), "has expired"))
      << (*server)->Log();
}

}  // namespace
}  // namespace descant::e2e
