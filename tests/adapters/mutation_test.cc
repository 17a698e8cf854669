// Row 42 in full: every truncation and every flip of one bit of three good
// files, fed to the validator in odd pieces. Each is refused as malformed or
// is another adapter; with the original's SHA-256 declared each is refused.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <string>

#include "tests/adapters/gguf_lora_fixture.h"
#include "tests/adapters/golden_base.h"

namespace descant {
namespace {

constexpr size_t kPieces[] = {1, 7, 61, 509};

struct Accepted {
  std::string digest;
  std::string file_sha256;  // what AdapterUpload::Commit compares
};

struct Counts {
  size_t cases = 0;
  size_t refused = 0;
  size_t other_adapters = 0;
  size_t same_adapter = 0;
};

template <typename Validate>
Counts MutateAll(const std::string& good, const Validate& validate) {
  const absl::StatusOr<Accepted> original = validate(good, good.size(), 1);
  EXPECT_TRUE(original.ok()) << original.status();
  Counts counts;
  const auto check = [&](const std::string& file, uint64_t declared,
                         const std::string& what) {
    const size_t piece = kPieces[counts.cases++ % std::size(kPieces)];
    const absl::StatusOr<Accepted> result = validate(file, declared, piece);
    if (!result.ok()) {
      EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument)
          << what << ": " << result.status();
      EXPECT_NE(ReasonOf(result.status()), "") << what;
      ++counts.refused;
      return;
    }
    EXPECT_NE(result->file_sha256, original->file_sha256) << what;
    ++(result->digest == original->digest ? counts.same_adapter
                                          : counts.other_adapters);
  };
  for (size_t size = 0; size < good.size(); ++size) {
    const std::string cut = good.substr(0, size);
    const std::string what = absl::StrCat("cut to ", size);
    check(cut, size, what);
    check(cut, good.size(), what);
  }
  EXPECT_EQ(counts.refused, counts.cases);
  std::string file = good;
  for (size_t byte = 0; byte < good.size(); ++byte) {
    for (int bit = 0; bit < 8; ++bit) {
      file[byte] = static_cast<char>(file[byte] ^ (1 << bit));
      check(file, file.size(), absl::StrCat("byte ", byte, " bit ", bit));
      file[byte] = good[byte];
    }
  }
  return counts;
}

absl::StatusOr<Accepted> ValidatePair(const std::string& config,
                                      const BaseShape& base,
                                      const std::string& file,
                                      uint64_t declared, size_t piece) {
  auto validator = AdapterValidator::Create(config, declared, &base, {});
  if (!validator.ok()) return validator.status();
  for (size_t at = 0; at < file.size(); at += piece) {
    const absl::Status status =
        (*validator)->Append(BytesOf(file).subspan(at, piece));
    if (!status.ok()) return status;
  }
  const auto validated = (*validator)->Finish();
  if (!validated.ok()) return validated.status();
  return Accepted{validated->digest, validated->file_sha256};
}

// (Printed for the record: the total is what is claimed.)
void Report(const char* file, size_t bytes, const Counts& counts) {
  std::printf(
      "%s, %zu bytes: %zu cases, %zu refused, %zu other adapters, %zu the "
      "same from another file\n",
      file, bytes, counts.cases, counts.refused, counts.other_adapters,
      counts.same_adapter);
}

TEST(MutationTest, SafetensorsOfManyModules) {
  const BaseShape base = TinyBase();
  const AdapterFiles files = TinyAdapter(1, Dtype::kBF16);
  const Counts counts = MutateAll(
      files.safetensors_bytes,
      [&](const std::string& file, uint64_t declared, size_t piece) {
        return ValidatePair(files.config_json, base, file, declared, piece);
      });
  Report("safetensors, BF16", files.safetensors_bytes.size(), counts);
  EXPECT_EQ(counts.same_adapter, 0u);
  EXPECT_GT(counts.other_adapters, 100u);
  EXPECT_GT(counts.cases, 10'000u);
}

TEST(MutationTest, SafetensorsWithRankPatternsInF16) {
  const BaseShape base = TinyBase();
  std::vector<RandomAdapterModule> modules;
  for (const BaseModule& module : base.modules) {
    if (module.layer == 1) continue;
    modules.push_back({module.path, module.in, module.out,
                       1 + static_cast<int32_t>(module.kind) % 3, -1});
  }
  RandomAdapterOptions options;
  options.rank = 2;
  options.seed = 3;
  options.dtype = Dtype::kF16;
  const AdapterFiles files = MakeRandomAdapter(modules, options);
  const Counts counts = MutateAll(
      files.safetensors_bytes,
      [&](const std::string& file, uint64_t declared, size_t piece) {
        return ValidatePair(files.config_json, base, file, declared, piece);
      });
  Report("safetensors, F16", files.safetensors_bytes.size(), counts);
  EXPECT_EQ(counts.same_adapter, 0u);
  EXPECT_GT(counts.other_adapters, 100u);
  EXPECT_GT(counts.cases, 20'000u);
}

// Made by llama.cpp's converter. Flips of texts that say nothing about the
// computation, such as general.name, give the same adapter: only its file is
// another.
TEST(MutationTest, GgufLora) {
  const BaseShape base = GoldenBase("tiny-llama", "llama");
  const std::string good = ReadGoldenText("gguf_lora/llama-bf16.gguf");
  const auto validate = [&base](const std::string& file, uint64_t declared,
                                size_t piece) -> absl::StatusOr<Accepted> {
    if (declared == 0) {
      return GgufLoraReader::Create(0, &base, {}).status();
    }
    const auto pair = ReadGgufLora(file, base, piece, {}, declared);
    if (!pair.ok()) return pair.status();
    return Accepted{pair->validated.digest, HexOf(Sha256Of(file))};
  };
  const Counts counts = MutateAll(good, validate);
  Report("GGUF, BF16", good.size(), counts);
  EXPECT_GT(counts.other_adapters, 100u);
  EXPECT_GT(counts.cases, 20'000u);
  // What the metadata has of such texts: names, description, base model.
  EXPECT_LT(counts.same_adapter, 8u * 400u);
}

}  // namespace
}  // namespace descant
