// The include rules of the code base, held by a test: who may include whom,
// which third parties are seen where, and how long a file may get.
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace descant {
namespace {

namespace fs = std::filesystem;

struct Include {
  std::string file;    // relative to the repository
  std::string target;  // as written
};

fs::path Root() {
  const char* folder = std::getenv("DESCANT_SOURCE_DIR");
  return folder != nullptr ? folder : ".";
}

bool IsSource(const fs::path& path) {
  static const std::set<std::string> kExtensions = {".h", ".cc", ".cu", ".cuh"};
  return kExtensions.contains(path.extension().string());
}

std::vector<std::string> Sources(const std::vector<std::string>& folders) {
  std::vector<std::string> files;
  for (const std::string& folder : folders) {
    if (!fs::exists(Root() / folder)) continue;
    for (const auto& entry :
         fs::recursive_directory_iterator(Root() / folder)) {
      if (entry.is_regular_file() && IsSource(entry.path())) {
        files.push_back(fs::relative(entry.path(), Root()).string());
      }
    }
  }
  return files;
}

std::vector<Include> Includes(const std::vector<std::string>& folders) {
  static const std::regex kInclude(R"(^\s*#\s*include\s*[<"]([^>"]+)[>"])");
  std::vector<Include> includes;
  for (const std::string& file : Sources(folders)) {
    std::ifstream in(Root() / file);
    std::string line;
    std::smatch match;
    while (std::getline(in, line)) {
      if (std::regex_search(line, match, kInclude)) {
        includes.push_back({file, match[1]});
      }
    }
  }
  return includes;
}

bool StartsWith(const std::string& text, const std::string& prefix) {
  return text.rfind(prefix, 0) == 0;
}

// The lowest folder that owns a file: the unit of the rules.
std::string Room(const std::string& path) {
  static const std::vector<std::string> kRooms = {"adapters/formats",
                                                  "adapters",
                                                  "runtime/base",
                                                  "runtime/core",
                                                  "runtime/tokenizer/jinja",
                                                  "runtime/tokenizer",
                                                  "runtime/kernels",
                                                  "runtime/model",
                                                  "runtime/engine",
                                                  "server/cli",
                                                  "server",
                                                  "descant/v1",
                                                  "google/rpc"};
  for (const std::string& room : kRooms) {
    if (StartsWith(path, room + "/")) return room;
  }
  // What lies in runtime/ itself is the engine.
  return StartsWith(path, "runtime/") ? "runtime/engine" : "";
}

TEST(IncludeRules, EdgesPointDown) {
  const std::map<std::string, std::set<std::string>> allowed = {
      {"runtime/base", {}},
      {"adapters/formats", {"runtime/base"}},
      {"adapters", {"runtime/base", "adapters/formats"}},
      {"runtime/core", {"runtime/base", "adapters/formats", "adapters"}},
      {"runtime/tokenizer/jinja", {"runtime/base"}},
      {"runtime/tokenizer", {"runtime/base", "runtime/tokenizer/jinja"}},
      {"runtime/kernels", {"runtime/base"}},
      {"runtime/model",
       {"runtime/base", "adapters/formats", "adapters", "runtime/core",
        "runtime/kernels", "runtime/tokenizer"}},
      {"runtime/engine",
       {"runtime/base", "adapters/formats", "adapters", "runtime/core",
        "runtime/model", "runtime/tokenizer"}},
      {"server",
       {"runtime/base", "adapters/formats", "adapters", "runtime/core",
        "runtime/model", "runtime/tokenizer", "runtime/engine", "descant/v1",
        "google/rpc"}},
      {"server/cli",
       {"runtime/base", "adapters/formats", "descant/v1", "google/rpc"}},
  };
  for (const Include& include : Includes({"adapters", "runtime", "server"})) {
    const std::string from = Room(include.file);
    const std::string to = Room(include.target);
    if (to.empty() || from == to) continue;
    const auto rule = allowed.find(from);
    ASSERT_NE(rule, allowed.end()) << include.file << " is in no known room";
    EXPECT_TRUE(rule->second.contains(to))
        << include.file << " includes " << include.target;
  }
}

TEST(IncludeRules, TorchStaysInItsRooms) {
  const std::regex torch("^(torch|ATen|c10|caffe2)/");
  for (const Include& include :
       Includes({"adapters", "runtime", "server", "tests"})) {
    if (!std::regex_search(include.target, torch)) continue;
    EXPECT_TRUE(StartsWith(include.file, "runtime/model/") ||
                include.file == "runtime/kernels/cpu/brgemm_torch.cc" ||
                StartsWith(include.file, "tests/runtime/model/"))
        << include.file << " includes " << include.target;
  }
}

TEST(IncludeRules, TorchAndProtobufNeverMeet) {
  const std::regex protobuf(
      R"(^(google/protobuf|grpc|grpcpp|descant/v1|google/rpc)/)");
  for (const Include& include : Includes({"adapters", "runtime"})) {
    EXPECT_FALSE(std::regex_search(include.target, protobuf))
        << include.file << " includes " << include.target;
  }
}

TEST(IncludeRules, NoUnsafeDeserialisers) {
  const std::regex unsafe(R"(torch::load|torch::jit::load|[Uu]npickle)");
  for (const std::string& file : Sources({"adapters", "runtime", "server"})) {
    std::ifstream in(Root() / file);
    std::string line;
    while (std::getline(in, line)) {
      EXPECT_FALSE(std::regex_search(line, unsafe)) << file << ": " << line;
    }
  }
}

TEST(IncludeRules, FilesStayShort) {
  for (const std::string& file :
       Sources({"adapters", "runtime", "server", "tests"})) {
    std::ifstream in(Root() / file);
    int lines = 0;
    std::string line;
    while (std::getline(in, line)) ++lines;
    EXPECT_LE(lines, 500) << file;
  }
}

}  // namespace
}  // namespace descant
