#include "server/config.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace descant {
namespace {

using ::testing::HasSubstr;

class ConfigTest : public ::testing::Test {
 protected:
  ConfigTest() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "config-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
  }
  ~ConfigTest() override { std::filesystem::remove_all(folder_); }

  std::string WriteFile(const std::string& content) {
    const std::string path = folder_ + "/server.yaml";
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }

  // The error of a configuration file; "" where it is accepted.
  std::string FileError(const std::string& content) {
    const auto config = ParseConfig({"--config=" + WriteFile(content)});
    return config.ok() ? "" : std::string(config.status().message());
  }

  std::string folder_;
};

std::string FlagError(std::vector<std::string> flags) {
  flags.push_back("--model=m.gguf");
  const auto config = ParseConfig(flags);
  if (config.ok()) return "";
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(config.status().message().find('\n'), absl::string_view::npos)
      << "one line: " << config.status().message();
  return std::string(config.status().message());
}

TEST_F(ConfigTest, DefaultsAreSafe) {
  const auto config = ParseConfig({"--model=m.gguf"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(IsLoopbackAddress(config->listen));
  EXPECT_TRUE(IsLoopbackAddress(config->admin_listen));
  EXPECT_TRUE(IsLoopbackAddress(config->metrics_listen));
  EXPECT_FALSE(config->reflection);
  EXPECT_EQ(config->token_budget, 128);
  EXPECT_EQ(config->device, "auto");
  EXPECT_THAT(config->adapter_dir, HasSubstr("descant/adapters"));
}

TEST_F(ConfigTest, FlagsWinOverTheFile) {
  const std::string path = WriteFile(
      "model: file.gguf\n"
      "token-budget: 512\n"
      "kv-memory: 64MiB\n"
      "reflection: true\n"
      "drain-timeout: 5s\n");
  const auto config =
      ParseConfig({"--token-budget=96", "--config", path, "--threads", "3"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->model, "file.gguf");
  EXPECT_EQ(config->token_budget, 96);
  EXPECT_EQ(config->threads, 3);
  EXPECT_EQ(config->kv_memory, uint64_t{64} << 20);
  EXPECT_TRUE(config->reflection);
  EXPECT_EQ(config->drain_timeout, std::chrono::seconds(5));
}

TEST_F(ConfigTest, HelpAndVersionNeedNothingElse) {
  EXPECT_TRUE(ParseConfig({"--help"})->help);
  EXPECT_TRUE(ParseConfig({"-h"})->help);
  EXPECT_TRUE(ParseConfig({"--version"})->version);
}

TEST_F(ConfigTest, HelpNamesEveryFlagAndFitsATerminal) {
  const std::string help = OptionsHelp();
  for (const char* flag : {"--model=",
                           "--config=",
                           "--listen=",
                           "--admin-listen=",
                           "--metrics-listen=",
                           "--device=",
                           "--threads=",
                           "--token-budget=",
                           "--kv-memory=",
                           "--adapter-memory=",
                           "--max-adapters=",
                           "--max-adapter-rank=",
                           "--max-model-len=",
                           "--adapter-dir=",
                           "--reflection",
                           "--insecure-no-auth",
                           "--version",
                           "--tenants=",
                           "--weights=",
                           "--adapter-weights=",
                           "--hot-merge=",
                           "--merge-memory=",
                           "--adapters-manifest=",
                           "--tls-cert=",
                           "--tls-key=",
                           "--audit-log="}) {
    EXPECT_THAT(help, HasSubstr(flag));
  }
  size_t begin = 0;
  while (begin < help.size()) {
    const size_t end = help.find('\n', begin);
    ASSERT_NE(end, std::string::npos);
    EXPECT_LE(end - begin, 80u) << help.substr(begin, end - begin);
    begin = end + 1;
  }
}

std::string ReadSource(const std::string& path) {
  const char* root = std::getenv("DESCANT_SOURCE_DIR");
  std::ifstream file(std::string(root) + "/" + path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST_F(ConfigTest, TheReferencePageIsNotStale) {
  EXPECT_EQ(ReadSource("server/CONFIGURATION.md"), OptionsMarkdown())
      << "descant-server --help-markdown >server/CONFIGURATION.md";
}

// What deploy/k8s mounts, but for the paths, which are of the pod.
TEST_F(ConfigTest, TheKubernetesConfigurationIsAccepted) {
  const std::string tenants = folder_ + "/tenants.yaml";
  std::ofstream(tenants) << "tenants:\n  - id: acme\n    keys:\n"
                            "      - {id: k1, sha256: "
                         << std::string(64, 'a') << "}\n";
  chmod(tenants.c_str(), 0600);
  const std::string base = folder_ + "/base.yaml";
  std::ofstream(base) << ReadSource("deploy/k8s/base/descant.yaml");
  const auto config = ParseConfig({"--config=" + base, "--tenants=" + tenants});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->listen, "0.0.0.0:50051");
  EXPECT_TRUE(IsLoopbackAddress(config->admin_listen));
  EXPECT_EQ(config->metrics_listen, "0.0.0.0:9090");
  EXPECT_FALSE(config->insecure_no_auth);
  // Without tenants nobody else may reach it.
  std::string open = ReadSource("deploy/k8s/base/descant.yaml");
  const size_t at = open.find("\ntenants:");
  ASSERT_NE(at, std::string::npos);
  open.erase(at, open.find('\n', at + 1) - at);
  EXPECT_THAT(FileError(open), HasSubstr("give --tenants"));
}

TEST_F(ConfigTest, ModelIsRequired) {
  const auto config = ParseConfig({});
  ASSERT_FALSE(config.ok());
  EXPECT_THAT(std::string(config.status().message()), HasSubstr("--model"));
}

// Row 91: what is wrong with the file as such.
TEST_F(ConfigTest, BadFiles) {
  const auto missing = ParseConfig({"--config=" + folder_ + "/none.yaml"});
  EXPECT_FALSE(missing.ok());
  const auto directory = ParseConfig({"--config=" + folder_});
  EXPECT_FALSE(directory.ok());
  EXPECT_THAT(FileError(""), HasSubstr("is empty"));
  EXPECT_THAT(FileError("# nothing\n"), HasSubstr("is empty"));
  EXPECT_NE(FileError(std::string("model: \xff\xfe\n")), "");
  EXPECT_NE(FileError(std::string("mo\0del: x\n", 10)), "");
  EXPECT_THAT(FileError("model: [\n"), HasSubstr("not valid YAML"));
  EXPECT_THAT(FileError("- model\n"), HasSubstr("must be a map"));
  EXPECT_THAT(FileError("just text\n"), HasSubstr("must be a map"));
  EXPECT_THAT(FileError("model: m\nmodle: m\n"), HasSubstr("unknown key"));
  EXPECT_THAT(FileError("model: m\nmodle: m\n"), HasSubstr(":2:"));
  EXPECT_THAT(FileError("model: m\nmodel: n\n"),
              HasSubstr("given more than once"));
  EXPECT_THAT(FileError("model: [a, b]\n"), HasSubstr("single value"));
  EXPECT_THAT(FileError("config: other.yaml\nmodel: m\n"),
              HasSubstr("unknown key"));
  EXPECT_EQ(FileError("model: m\n"), "");
}

struct FlagCase {
  std::string flag;
  std::string expected;  // in the message; "" where the flag is fine
};

class FlagTest : public ::testing::TestWithParam<FlagCase> {};

TEST_P(FlagTest, Refused) {
  const FlagCase& param = GetParam();
  const std::string error = FlagError({param.flag});
  if (param.expected.empty()) {
    EXPECT_EQ(error, "");
    return;
  }
  EXPECT_THAT(error, HasSubstr(param.expected)) << param.flag;
  // The message names the flag.
  EXPECT_THAT(error, HasSubstr(param.flag.substr(0, param.flag.find('='))));
}

// Row 92, and the command line itself.
INSTANTIATE_TEST_SUITE_P(
    All, FlagTest,
    ::testing::Values(
        FlagCase{"--token-budget=0", "from 1"},
        FlagCase{"--token-budget=-1", "from 1"},
        FlagCase{"--token-budget=1e3", "whole number"},
        FlagCase{"--token-budget=9999999999999999999", "whole number"},
        FlagCase{"--token-budget=", "whole number"},
        FlagCase{"--max-waiting=0", "from 1"},
        FlagCase{"--threads=0", "from 1"},
        FlagCase{"--max-adapter-rank=513", "to 512"},
        FlagCase{"--max-model-len=0", "from 1"},
        FlagCase{"--kv-memory=0", "at least"},
        FlagCase{"--kv-memory=-1GiB", "size such as"},
        FlagCase{"--kv-memory=2GB", "size such as"},
        FlagCase{"--kv-memory=99999999TiB", "size such as"},
        FlagCase{"--kv-memory=100TiB", "memory there are"},
        FlagCase{"--adapter-memory=100TiB", "memory there are"},
        FlagCase{"--listen=127.0.0.1", "HOST:PORT"},
        FlagCase{"--listen=127.0.0.1:0", "port from 1"},
        FlagCase{"--listen=127.0.0.1:70000", "port from 1"},
        FlagCase{"--listen=:50051", "HOST:PORT"},
        FlagCase{"--listen=none", "HOST:PORT"},
        FlagCase{"--listen=a b:1", "no host name"},
        FlagCase{"--listen=0.0.0.0:50051", "--insecure-no-auth"},
        FlagCase{"--listen=[::]:50051", "--insecure-no-auth"},
        FlagCase{"--admin-listen=10.0.0.1:50052", "--insecure-no-auth"},
        FlagCase{"--admin-listen=127.0.0.1:50051", "has this address"},
        FlagCase{"--device=tpu", "auto, cpu"},
        FlagCase{"--weights=fp8", "must be bf16, int8 or int4"},
        FlagCase{"--weights=", "must be bf16"},
        FlagCase{"--hot-merge=on", "must be auto or off"},
        FlagCase{"--hot-merge=", "must be auto or off"},
        FlagCase{"--merge-memory=1", "at least 1048576"},
        FlagCase{"--merge-memory=100TiB", "memory there are"},
        FlagCase{"--merge-memory=1GiB", ""},
        FlagCase{"--startup-self-test=yes", "must be auto, on or off"},
        FlagCase{"--startup-self-test=on", ""},
        FlagCase{"--hot-merge=auto", ""},
        FlagCase{"--export-merged=a", "needs --out"},
        FlagCase{"--export-merged=", "--export-merged: "},
        FlagCase{"--export-merged=a b", "--export-merged: "},
        FlagCase{"--out=dir", "needs --export-merged"},
        FlagCase{"--out=", "must not be empty"},
        FlagCase{"--export-dtype=bf16", "needs --export-merged"},
        FlagCase{"--export-dtype=int8", "must be auto, fp32, bf16 or fp16"},
        FlagCase{"--max-shard-size=1GiB", "needs --export-merged"},
        FlagCase{"--max-shard-size=1", "at least"},
        FlagCase{"--adapter-versions=0", "from 1"},
        FlagCase{"--weights=bf16", ""}, FlagCase{"--weights=int8", ""},
        FlagCase{"--adapter-weights=int4", "must be bf16 or int8"},
        FlagCase{"--adapter-weights=bf16", ""},
        FlagCase{"--adapter-weights=int8", ""}, FlagCase{"--hot-merge=off", ""},
        FlagCase{"--tenants=", "must not be empty"},
        FlagCase{"--tenants=/nonexistent/t.yaml", "cannot be read"},
        FlagCase{"--tls-cert=a.pem", "one needs the other"},
        FlagCase{"--tls-key=a.pem", "one needs the other"},
        FlagCase{"--tls-client-ca=a.pem", "needs --tls-cert"},
        FlagCase{"--tls-require-client-cert", "needs --tls-client-ca"},
        FlagCase{"--audit-fail-closed", "needs --audit-log"},
        FlagCase{"--audit-log=", "must not be empty"},
        FlagCase{"--audit-log-size=-1", "size such as"},
        FlagCase{"--audit-log=a.jsonl", ""},
        FlagCase{"--request-timeout=0", "time such as"},
        FlagCase{"--request-timeout=-1s", "time such as"},
        FlagCase{"--request-timeout=soon", "time such as"},
        FlagCase{"--reflection=yes", "true or false"},
        FlagCase{"--adapter-dir=", "must not be empty"},
        FlagCase{"--nonsense", "unknown flag"},
        FlagCase{"--nonsense=1", "unknown flag"},
        FlagCase{"--model=again", "more than once"},
        FlagCase{"stray", "not a flag"}, FlagCase{"-x", "not a flag"},
        FlagCase{"--metrics-listen=none", ""},
        FlagCase{"--metrics-listen=0.0.0.0:9090", ""},
        FlagCase{"--listen=[::1]:50051", ""},
        FlagCase{"--listen=localhost:50051", ""}, FlagCase{"--reflection", ""},
        FlagCase{"--reflection=false", ""}, FlagCase{"--kv-memory=1MiB", ""},
        FlagCase{"--request-timeout=1m30s", ""}));

TEST_F(ConfigTest, NoAuthenticationIsSaidAloud) {
  EXPECT_EQ(FlagError({"--listen=0.0.0.0:50051", "--insecure-no-auth"}), "");
}

TEST_F(ConfigTest, TenantsReplaceInsecureNoAuthOnTheTenantsListener) {
  const std::string path = folder_ + "/tenants.yaml";
  std::ofstream(path) << "tenants: [{id: acme, keys: [{id: k, sha256: "
                      << std::string(64, 'a') << "}]}]\n";
  const std::string flag = "--tenants=" + path;
  ASSERT_EQ(chmod(path.c_str(), 0644), 0);
  EXPECT_THAT(FlagError({flag}), HasSubstr("group or others"));
  ASSERT_EQ(chmod(path.c_str(), 0600), 0);
  EXPECT_EQ(FlagError({flag}), "");
  // Keys don't cross the network in clear unless that is said aloud; operators'
  // calls from other machines need one too.
  for (const char* listener :
       {"--listen=0.0.0.0:50051", "--admin-listen=0.0.0.0:50052"}) {
    EXPECT_THAT(FlagError({flag, listener}), HasSubstr("--insecure-no-tls"));
    EXPECT_EQ(FlagError({flag, listener, "--insecure-no-tls"}), "");
  }
  EXPECT_EQ(FlagError({flag, "--metrics-listen=0.0.0.0:9090"}), "");
  EXPECT_THAT(FlagError({flag, "--reflection"}),
              HasSubstr("not with --tenants"));
  const auto config =
      ParseConfig({"--config=" + WriteFile("model: m\ntenants: " + path)});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_NE(config->tenants, nullptr);
}

TEST_F(ConfigTest, LastFlagNeedsItsValue) {
  const auto config = ParseConfig({"--model"});
  ASSERT_FALSE(config.ok());
  EXPECT_THAT(std::string(config.status().message()),
              HasSubstr("needs a value"));
}

}  // namespace
}  // namespace descant
