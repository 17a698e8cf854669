#include "tests/runtime/model/golden_cases.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "adapters/formats/random_adapter.h"
#include "adapters/formats/safetensors_writer.h"
#include "adapters/validate.h"
#include "runtime/base/check.h"
#include "runtime/base/float16.h"

namespace descant {
namespace {

using Json = nlohmann::json;

std::string FromEnvironment(const char* variable, const std::string& relative) {
  const char* folder = std::getenv(variable);
  DESCANT_CHECK(folder != nullptr);
  return absl::StrCat(folder, "/", relative);
}

template <typename T>
void Append(std::string* bytes, T value) {
  bytes->append(reinterpret_cast<const char*>(&value), sizeof value);
}

Dtype DtypeNamed(const std::string& name) {
  if (name == "bf16") return Dtype::kBF16;
  if (name == "f16") return Dtype::kF16;
  DESCANT_CHECK(name == "f32");
  return Dtype::kF32;
}

SafetensorsEntry MakeTensor(const std::string& name,
                            const std::vector<uint64_t>& shape,
                            const GoldenAdapter& golden) {
  uint64_t count = 1;
  for (const uint64_t size : shape) count *= size;
  const double deviation =
      absl::StrContains(name, ".lora_A.") ? golden.std_a : golden.std_b;
  SafetensorsEntry entry;
  entry.name = name;
  entry.shape = shape;
  entry.dtype = DtypeNamed(golden.dtype);
  for (const float value : RandomTensor(name, count, golden.seed, deviation)) {
    switch (entry.dtype) {
      case Dtype::kBF16:
        Append(&entry.bytes, ToBFloat16(value));
        break;
      case Dtype::kF16:
        Append(&entry.bytes, ToFloat16(value));
        break;
      default:
        Append(&entry.bytes, value);
    }
  }
  return entry;
}

GoldenAdapter ParseAdapter(const Json& json) {
  GoldenAdapter adapter;
  adapter.name = json.at("name");
  adapter.kind = json.at("kind");
  if (adapter.kind != "random") return adapter;
  adapter.seed = json.at("seed");
  adapter.dtype = json.at("dtype");
  adapter.std_a = json.value("std_a", 0.02);
  adapter.std_b = json.value("std_b", 0.01);
  adapter.config_json = json.at("config").dump();
  for (const Json& tensor : json.at("tensors")) {
    adapter.tensors.emplace_back(tensor.at(0), tensor.at(1));
  }
  return adapter;
}

GoldenCase ParseCase(const Json& json) {
  GoldenCase result;
  result.adapter = json.at("adapter");
  result.prompt = json.at("prompt_ids").get<std::vector<int32_t>>();
  result.tokens = json.at("tokens").get<std::vector<int32_t>>();
  result.gaps = json.at("gaps").get<std::vector<float>>();
  for (const Json& token : json.at("top")) {
    std::vector<TokenLogprob>& top = result.top.emplace_back();
    for (const Json& entry : token) {
      top.push_back({entry.at(0).get<int32_t>(), entry.at(1).get<float>()});
    }
  }
  return result;
}

}  // namespace

std::string SourcePath(const std::string& relative) {
  return FromEnvironment("DESCANT_SOURCE_DIR", relative);
}

std::string DepsPath(const std::string& relative) {
  return FromEnvironment("DESCANT_DEPS_DIR", relative);
}

bool FileExists(const std::string& path) {
  return std::filesystem::exists(path);
}

std::string ReadFileOrDie(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  DESCANT_CHECK(file.good());
  return std::string(std::istreambuf_iterator<char>(file), {});
}

GoldenFile ReadGolden(const std::string& name) {
  const Json json = Json::parse(ReadFileOrDie(
      SourcePath(absl::StrCat("tests/golden/data/", name, ".json"))));
  GoldenFile file;
  file.model = json.at("model");
  for (const Json& adapter : json.at("adapters")) {
    file.adapters.push_back(ParseAdapter(adapter));
  }
  for (const Json& entry : json.at("cases")) {
    file.cases.push_back(ParseCase(entry));
  }
  return file;
}

absl::StatusOr<std::shared_ptr<const Adapter>> MakeGoldenAdapter(
    const GoldenAdapter& golden, const BaseShape& base) {
  std::string config = golden.config_json;
  std::string bytes;
  if (golden.kind == "base") return nullptr;
  if (golden.kind == "demo") {
    const std::string folder =
        SourcePath(absl::StrCat("deploy/demo/adapters/", golden.name, "/"));
    config = ReadFileOrDie(folder + "adapter_config.json");
    bytes = ReadFileOrDie(folder + "adapter_model.safetensors");
  } else {
    std::vector<SafetensorsEntry> entries;
    for (const auto& [name, shape] : golden.tensors) {
      entries.push_back(MakeTensor(name, shape, golden));
    }
    bytes = WriteSafetensors(std::move(entries));
  }
  return MakeAdapter("", golden.name, config, bytes, base, AdapterLimits());
}

float LogprobError(const std::vector<TokenLogprob>& expected,
                   const std::vector<TokenLogprob>& top) {
  float worst = 0;
  for (const TokenLogprob& want : expected) {
    // An entry that lost a tie for the last place is compared with that.
    TokenLogprob have = top.back();
    for (const TokenLogprob& entry : top) {
      if (entry.token == want.token) have = entry;
    }
    worst = std::max(worst, std::abs(have.logprob - want.logprob));
  }
  return worst;
}

}  // namespace descant
