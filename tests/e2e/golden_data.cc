#include "tests/e2e/golden_data.h"

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "adapters/formats/safetensors_writer.h"
#include "runtime/base/float16.h"
#include "runtime/base/little_endian.h"
#include "runtime/base/status_macros.h"
#include "tests/e2e/server_process.h"

namespace descant::e2e {
namespace {

using Json = nlohmann::json;

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

absl::StatusOr<Json> ReadJson(const std::string& path) {
  DESCANT_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return absl::InvalidArgumentError(path);
  return json;
}

std::string Encode(const std::vector<float>& values, Dtype dtype) {
  std::string bytes;
  for (const float value : values) {
    if (dtype == Dtype::kF32) {
      AppendLittleEndian(value, &bytes);
    } else if (dtype == Dtype::kF16) {
      AppendLittleEndian(ToFloat16(value).bits, &bytes);
    } else {
      AppendLittleEndian(ToBFloat16(value).bits, &bytes);
    }
  }
  return bytes;
}

Dtype ParseDtype(const std::string& name) {
  if (name == "f32") return Dtype::kF32;
  return name == "f16" ? Dtype::kF16 : Dtype::kBF16;
}

// The same bits as tests/golden/random_adapter.py.
AdapterFiles MakeRandom(const Json& adapter) {
  const Dtype dtype = ParseDtype(adapter["dtype"]);
  std::vector<SafetensorsEntry> entries;
  for (const Json& tensor : adapter["tensors"]) {
    SafetensorsEntry entry;
    entry.name = tensor[0];
    entry.dtype = dtype;
    entry.shape = tensor[1].get<std::vector<uint64_t>>();
    const bool a = absl::StrContains(entry.name, ".lora_A.");
    const double std = adapter[a ? "std_a" : "std_b"];
    entry.bytes =
        Encode(RandomTensor(entry.name, entry.shape[0] * entry.shape[1],
                            adapter["seed"].get<uint64_t>(), std),
               dtype);
    entries.push_back(std::move(entry));
  }
  return {adapter["config"].dump(), WriteSafetensors(std::move(entries))};
}

absl::StatusOr<AdapterFiles> ReadTrained(const std::string& name) {
  const std::string folder = SourcePath("deploy/demo/adapters/" + name);
  AdapterFiles files;
  DESCANT_ASSIGN_OR_RETURN(files.config_json,
                           ReadFile(folder + "/adapter_config.json"));
  DESCANT_ASSIGN_OR_RETURN(files.safetensors_bytes,
                           ReadFile(folder + "/adapter_model.safetensors"));
  return files;
}

absl::Status Append(const Json& json, Golden* golden) {
  for (const Json& adapter : json["adapters"]) {
    const std::string kind = adapter["kind"];
    if (kind == "base") continue;
    GoldenAdapter entry{.name = adapter["name"]};
    if (kind == "random") {
      entry.files = MakeRandom(adapter);
    } else {
      DESCANT_ASSIGN_OR_RETURN(entry.files, ReadTrained(entry.name));
    }
    golden->adapters.push_back(std::move(entry));
  }
  for (const Json& item : json["cases"]) {
    golden->cases.push_back(
        {.adapter = item["adapter"],
         .prompt = item["prompt_ids"],
         .tokens = item["tokens"],
         .top =
             item["top"]
                 .get<std::vector<std::vector<std::pair<int32_t, double>>>>(),
         .gaps = item["gaps"]});
  }
  return absl::OkStatus();
}

absl::StatusOr<Json> ReadData(const std::string& name) {
  return ReadJson(
      SourcePath(absl::StrCat("tests/golden/data/", name, ".json")));
}

Yardstick ParseYardstick(const Json& json, const Json& left_out) {
  const Json& all = json["all"];
  Yardstick yardstick{.p50 = all["p50"], .p99 = all["p99"], .max = all["max"]};
  for (const auto& [name, figures] : left_out.items()) {
    yardstick.left_out_p50[name] = figures["p50"];
  }
  return yardstick;
}

}  // namespace

absl::StatusOr<Golden> LoadDemoGolden() {
  Golden golden;
  for (const char* name : {"demo_base", "demo_trained", "demo_random"}) {
    DESCANT_ASSIGN_OR_RETURN(const Json json, ReadData(name));
    DESCANT_RETURN_IF_ERROR(Append(json, &golden));
  }
  return golden;
}

absl::StatusOr<FamilyGolden> LoadFamilyGolden(const std::string& name) {
  DESCANT_ASSIGN_OR_RETURN(const Json json, ReadData(name));
  FamilyGolden family{.model = json["model"]};
  DESCANT_RETURN_IF_ERROR(Append(json, &family.golden));
  return family;
}

absl::StatusOr<Yardstick> LoadYardstick() {
  DESCANT_ASSIGN_OR_RETURN(const Json json, ReadData("yardstick"));
  return ParseYardstick(json, json["adapter_left_out"]["by_adapter"]);
}

absl::StatusOr<Yardstick> LoadFamilyYardstick(const std::string& name) {
  DESCANT_ASSIGN_OR_RETURN(const Json json, ReadData("yardstick_families"));
  const Json& family = json["by_file"][name];
  return ParseYardstick(family, family["adapter_left_out"]);
}

}  // namespace descant::e2e
