// Rows 42 to 53 of the bad-input table: an adapter against the base model.
#include "adapters/validate.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "adapters/formats/safetensors_writer.h"
#include "runtime/base/float16.h"
#include "tests/adapters/adapter_fixture.h"

namespace descant {
namespace {

constexpr char kPrefix[] = "base_model.model.model.layers.";

// A PEFT pair that tests build wrong in one place.
struct Draft {
  std::string config =
      R"({"r":2,"lora_alpha":4,"target_modules":["layers.0.self_attn.q_proj"]})";
  std::vector<SafetensorsEntry> tensors = {
      Tensor("0.self_attn.q_proj.lora_A.weight", 2, 8),
      Tensor("0.self_attn.q_proj.lora_B.weight", 8, 2)};

  static SafetensorsEntry Tensor(const std::string& name, uint64_t rows,
                                 uint64_t columns) {
    return {kPrefix + name,
            Dtype::kF32,
            {rows, columns},
            std::string(rows * columns * 4, '\0')};
  }
};

absl::StatusOr<ValidatedAdapter> Validate(const std::string& config,
                                          const std::string& file,
                                          size_t chunk = 1 << 20,
                                          AdapterLimits limits = {}) {
  static const auto* base = new BaseShape(TinyBase());
  auto validator = AdapterValidator::Create(config, file.size(), base, limits);
  if (!validator.ok()) return validator.status();
  for (size_t at = 0; at < file.size(); at += chunk) {
    const absl::Status status =
        (*validator)->Append(BytesOf(file).subspan(at, chunk));
    if (!status.ok()) return status;
  }
  return (*validator)->Finish();
}

std::string Check(const Draft& draft) {
  return Outcome(
      Validate(draft.config, WriteSafetensors(draft.tensors)).status());
}

TEST(ValidateTest, AcceptsAGoodPair) {
  EXPECT_EQ(Check(Draft()), "OK");
  const AdapterFiles files = TinyAdapter(1);
  const auto validated = Validate(files.config_json, files.safetensors_bytes);
  ASSERT_TRUE(validated.ok()) << validated.status();
  ASSERT_EQ(validated->modules.size(), 4u);
  EXPECT_EQ(validated->max_rank, 2);
  EXPECT_EQ(validated->modules[0].kind, LinearKind::kQ);
  EXPECT_EQ(validated->modules[3].layer, 1);
  EXPECT_EQ(validated->modules[3].scale, 2.0f);
  EXPECT_EQ(validated->file_sha256, HexOf(Sha256Of(files.safetensors_bytes)));
}

TEST(ValidateTest, ChunkingChangesNothing) {
  const AdapterFiles files = TinyAdapter(1, Dtype::kF32);
  const auto whole = Validate(files.config_json, files.safetensors_bytes);
  ASSERT_TRUE(whole.ok());
  for (const size_t chunk : {1, 3, 7, 64}) {
    const auto pieces =
        Validate(files.config_json, files.safetensors_bytes, chunk);
    ASSERT_TRUE(pieces.ok()) << chunk << " " << pieces.status();
    EXPECT_EQ(pieces->digest, whole->digest);
  }
}

TEST(ValidateTest, Rows3To6Sizes) {
  const AdapterFiles files = TinyAdapter(1);
  const BaseShape base = TinyBase();
  const auto create = [&](uint64_t size) {
    return AdapterValidator::Create(files.config_json, size, &base, {});
  };
  EXPECT_EQ(Outcome(create(0).status()),
            "INVALID_ARGUMENT UPLOAD_SIZE_MISSING");
  EXPECT_EQ(Outcome(create(uint64_t{1} << 63).status()),
            "RESOURCE_EXHAUSTED UPLOAD_TOO_LARGE");
  EXPECT_EQ(Outcome(create(UINT64_MAX).status()),
            "RESOURCE_EXHAUSTED UPLOAD_TOO_LARGE");
  const std::string& file = files.safetensors_bytes;
  auto fewer = create(file.size());
  ASSERT_TRUE((*fewer)->Append(BytesOf(file).subspan(0, file.size() - 1)).ok());
  EXPECT_EQ(Outcome((*fewer)->Finish().status()),
            "INVALID_ARGUMENT UPLOAD_TRUNCATED");
  auto more = create(file.size());
  ASSERT_TRUE((*more)->Append(BytesOf(file)).ok());
  const std::string over = "x";
  EXPECT_EQ(Outcome((*more)->Append(BytesOf(over))),
            "INVALID_ARGUMENT UPLOAD_OVERRUN");
  EXPECT_EQ(Outcome((*more)->Finish().status()),
            "INVALID_ARGUMENT UPLOAD_OVERRUN");
}

TEST(ValidateTest, Row42TruncationsAndFlipsNeverKeepTheDigest) {
  const AdapterFiles files = TinyAdapter(1);
  const std::string& file = files.safetensors_bytes;
  const auto good = Validate(files.config_json, file);
  ASSERT_TRUE(good.ok());
  const size_t header =
      8 + static_cast<uint8_t>(file[0]) + 256u * static_cast<uint8_t>(file[1]);
  for (size_t size = 1; size < header; ++size) {
    EXPECT_FALSE(Validate(files.config_json, file.substr(0, size)).ok())
        << size;
  }
  for (size_t byte = 0; byte < file.size(); ++byte) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = file;
      flipped[byte] = static_cast<char>(flipped[byte] ^ (1 << bit));
      const auto other = Validate(files.config_json, flipped);
      if (!other.ok()) continue;
      EXPECT_NE(other->file_sha256, good->file_sha256);
      if (byte >= header) {
        EXPECT_NE(other->digest, good->digest);
      }
    }
  }
}

TEST(ValidateTest, Row43RankDiffersFromTheConfig) {
  Draft draft;
  draft.tensors = {Draft::Tensor("0.self_attn.q_proj.lora_A.weight", 3, 8),
                   Draft::Tensor("0.self_attn.q_proj.lora_B.weight", 8, 3)};
  EXPECT_EQ(Check(draft), "INVALID_ARGUMENT ADAPTER_RANK");
}

TEST(ValidateTest, Row44Pairs) {
  Draft draft;
  draft.tensors.pop_back();
  EXPECT_EQ(Check(draft), "INVALID_ARGUMENT ADAPTER_TENSOR_UNPAIRED");
  draft = Draft();
  draft.tensors.erase(draft.tensors.begin());
  EXPECT_EQ(Check(draft), "INVALID_ARGUMENT ADAPTER_TENSOR_UNPAIRED");
  draft = Draft();
  draft.tensors[1] = Draft::Tensor("0.self_attn.q_proj.lora_B.weight", 8, 3);
  EXPECT_EQ(Check(draft), "INVALID_ARGUMENT ADAPTER_RANK");
}

TEST(ValidateTest, Row45ShapesOfAnotherModule) {
  Draft draft;
  draft.tensors[0] = Draft::Tensor("0.self_attn.q_proj.lora_A.weight", 2, 12);
  EXPECT_EQ(Check(draft), "INVALID_ARGUMENT ADAPTER_SHAPE");
  draft = Draft();
  draft.tensors[1] = Draft::Tensor("0.self_attn.q_proj.lora_B.weight", 12, 2);
  EXPECT_EQ(Check(draft), "INVALID_ARGUMENT ADAPTER_SHAPE");
  draft = Draft();  // transposed
  draft.tensors[0] = Draft::Tensor("0.self_attn.q_proj.lora_A.weight", 8, 2);
  EXPECT_EQ(Check(draft), "INVALID_ARGUMENT ADAPTER_SHAPE");
}

TEST(ValidateTest, Row46UnknownModules) {
  for (const char* layer : {"999", "-1", "00", "1e1", "0x0", "", "2"}) {
    Draft draft;
    draft.tensors[0].name =
        absl::StrCat(kPrefix, layer, ".self_attn.q_proj.lora_A.weight");
    draft.tensors[1].name =
        absl::StrCat(kPrefix, layer, ".self_attn.q_proj.lora_B.weight");
    EXPECT_EQ(Check(draft), "INVALID_ARGUMENT ADAPTER_MODULE_UNKNOWN") << layer;
  }
  for (const char* name :
       {"base_model.model.lm_head", "base_model.model.model.embed_tokens"}) {
    Draft draft;
    draft.tensors[0].name = absl::StrCat(name, ".lora_A.weight");
    draft.tensors[1].name = absl::StrCat(name, ".lora_B.weight");
    EXPECT_EQ(Check(draft), "INVALID_ARGUMENT ADAPTER_MODULE_UNKNOWN") << name;
  }
}

TEST(ValidateTest, Row47TwoAdaptersInOneFile) {
  Draft draft;
  for (const char* adapter : {"default", "other"}) {
    for (const char* part : {"lora_A", "lora_B"}) {
      SafetensorsEntry entry = draft.tensors[0];
      entry.name = absl::StrCat(kPrefix, "0.self_attn.q_proj.", part, ".",
                                adapter, ".weight");
      draft.tensors.push_back(entry);
    }
  }
  EXPECT_EQ(Check(draft), "INVALID_ARGUMENT ADAPTER_TENSOR_NAME");
}

TEST(ValidateTest, OtherTensorNames) {
  const std::pair<const char*, const char*> cases[] = {
      {"model.layers.0.self_attn.q_proj.lora_A.weight", "ADAPTER_TENSOR_NAME"},
      {"base_model.model.model.layers.0.self_attn.q_proj.weight",
       "ADAPTER_TENSOR_NAME"},
      {"base_model.model.model.layers.0.self_attn.q_proj."
       "lora_magnitude_vector.weight",
       "PEFT_FEATURE_UNSUPPORTED"},
      {"base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias",
       "PEFT_FEATURE_UNSUPPORTED"}};
  for (const auto& [name, reason] : cases) {
    Draft draft;
    draft.tensors[0].name = name;
    EXPECT_EQ(Check(draft), absl::StrCat("INVALID_ARGUMENT ", reason)) << name;
  }
}

TEST(ValidateTest, ConfigAndFileAgreeOnTheModules) {
  Draft draft;
  draft.config = R"({"r":2,"target_modules":["k_proj"]})";
  EXPECT_EQ(Check(draft), "INVALID_ARGUMENT ADAPTER_MODULE_UNTARGETED");
  draft.config = R"({"r":2,"target_modules":["q_proj"]})";
  EXPECT_EQ(Check(draft), "INVALID_ARGUMENT ADAPTER_MODULE_MISSING");
  draft = Draft();
  draft.tensors.clear();
  EXPECT_EQ(Check(draft), "INVALID_ARGUMENT ADAPTER_NO_MODULES");
}

TEST(ValidateTest, Row48ScaleOutOfRange) {
  for (const char* alpha : {"1e308", "-1e308", "1e-300", "7e38"}) {
    Draft draft;
    draft.config =
        absl::StrCat(R"({"r":2,"lora_alpha":)", alpha,
                     R"(,"target_modules":["layers.0.self_attn.q_proj"]})");
    EXPECT_EQ(Check(draft), "INVALID_ARGUMENT ADAPTER_SCALE") << alpha;
  }
}

// One value at one place of A.
std::string CheckValue(Dtype dtype, float value, size_t element) {
  Draft draft;
  for (SafetensorsEntry& entry : draft.tensors) {
    entry.dtype = dtype;
    entry.bytes.resize(16 * static_cast<size_t>(DtypeBytes(dtype)));
  }
  char* place = draft.tensors[0].bytes.data() +
                element * static_cast<size_t>(DtypeBytes(dtype));
  if (dtype == Dtype::kF32) {
    std::memcpy(place, &value, sizeof(value));
  } else {
    const uint16_t bits =
        dtype == Dtype::kF16 ? ToFloat16(value).bits : ToBFloat16(value).bits;
    std::memcpy(place, &bits, sizeof(bits));
  }
  return Check(draft);
}

TEST(ValidateTest, Row49Values) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const std::string bad = "INVALID_ARGUMENT ADAPTER_VALUE";
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF16, Dtype::kBF16}) {
    for (const size_t element : {0, 7, 15}) {
      EXPECT_EQ(CheckValue(dtype, std::nanf(""), element), bad);
      EXPECT_EQ(CheckValue(dtype, kInf, element), bad);
      EXPECT_EQ(CheckValue(dtype, -kInf, element), bad);
      EXPECT_EQ(CheckValue(dtype, 65504.0f, element), bad);
      EXPECT_EQ(CheckValue(dtype, -10112.0f, element), bad);
      EXPECT_EQ(CheckValue(dtype, 9984.0f, element), "OK");
      EXPECT_EQ(CheckValue(dtype, 1e-7f, element), "OK");
    }
  }
  EXPECT_EQ(CheckValue(Dtype::kF32, 1e4f, 3), "OK");
  EXPECT_EQ(CheckValue(Dtype::kF32, std::nextafterf(1e4f, 2e4f), 3), bad);
  EXPECT_EQ(CheckValue(Dtype::kF32, 1e-40f, 3), "OK");
}

TEST(ValidateTest, Row49ABadValueIsFoundAcrossChunks) {
  Draft draft;
  const float nan = std::nanf("");
  std::memcpy(draft.tensors[1].bytes.data() + 60, &nan, sizeof(nan));
  const std::string file = WriteSafetensors(draft.tensors);
  for (const size_t chunk : {1, 2, 3, 5, 17}) {
    EXPECT_EQ(Outcome(Validate(draft.config, file, chunk).status()),
              "INVALID_ARGUMENT ADAPTER_VALUE");
  }
}

// Overflow in a product is the request's fault, found when it runs.
TEST(ValidateTest, Row50LargeFiniteValuesAreAccepted) {
  EXPECT_EQ(CheckValue(Dtype::kF16, 9984.0f, 0), "OK");
}

TEST(ValidateTest, Row52NoModuleMatches) {
  Draft draft;
  draft.config = R"({"r":2,"target_modules":"(a+)+$"})";
  EXPECT_EQ(Check(draft), "INVALID_ARGUMENT ADAPTER_NO_MODULES");
}

TEST(ValidateTest, Row53AnotherBaseModel) {
  const BaseShape base = TinyBase();
  EXPECT_EQ(Outcome(CheckBaseFingerprint("sha256:other", base)),
            "FAILED_PRECONDITION BASE_MISMATCH");
  EXPECT_EQ(Outcome(CheckBaseFingerprint("sha256:tiny", base)), "OK");
  EXPECT_EQ(Outcome(CheckBaseFingerprint("", base)), "OK");
}

TEST(ValidateTest, Row31MoreTensorsThanTheModelHasModules) {
  Draft draft;
  for (int i = 0; i < 27; ++i) {
    draft.tensors.push_back(
        Draft::Tensor(absl::StrCat("0.x", i, ".lora_A.weight"), 2, 8));
  }
  EXPECT_EQ(Check(draft), "INVALID_ARGUMENT SAFETENSORS_TENSOR_COUNT");
}

TEST(ValidateTest, MessagesCarryNoRawBytes) {
  Draft draft;
  draft.tensors[0].name = "\x1b[31m" + std::string(200, 'x');
  const absl::Status status =
      Validate(draft.config, WriteSafetensors(draft.tensors)).status();
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.message().find('\x1b'), absl::string_view::npos);
  EXPECT_LT(status.message().size(), 400u);
}

TEST(IdentityTest, DigestSeesContentAndNothingElse) {
  const AdapterFiles files = TinyAdapter(1);
  const auto digest = [](const std::string& config, const std::string& file) {
    const auto validated = Validate(config, file);
    return validated.ok() ? validated->digest : Outcome(validated.status());
  };
  const std::string first = digest(files.config_json, files.safetensors_bytes);
  EXPECT_EQ(first.size(), 71u);
  EXPECT_NE(first, digest(TinyAdapter(2).config_json,
                          TinyAdapter(2).safetensors_bytes));
  // The same tensors behind another header.
  std::string padded = files.safetensors_bytes;
  const uint64_t length = LoadLittleEndian<uint64_t>(padded.data());
  padded.insert(8 + length, 8, ' ');
  const uint64_t longer = length + 8;
  std::memcpy(padded.data(), &longer, sizeof(longer));
  EXPECT_EQ(first, digest(files.config_json, padded));
}

TEST(MakeAdapterTest, CopiesTensorsAligned) {
  const AdapterFiles files = TinyAdapter(5, Dtype::kF16);
  const auto adapter =
      MakeAdapter("acme", "sql", files.config_json,
                  BytesOf(files.safetensors_bytes), TinyBase(), {});
  ASSERT_TRUE(adapter.ok()) << adapter.status();
  EXPECT_EQ((*adapter)->tenant, "acme");
  EXPECT_EQ((*adapter)->name, "sql");
  ASSERT_EQ((*adapter)->modules.size(), 4u);
  const AdapterModule& v = (*adapter)->modules[1];
  EXPECT_EQ(v.kind, LinearKind::kV);
  EXPECT_EQ(v.rank, 2);
  EXPECT_EQ(v.a.rows, 2);
  EXPECT_EQ(v.a.columns, 8);
  EXPECT_EQ(v.b.rows, 4);
  EXPECT_EQ(v.b.columns, 2);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(v.b.data) % 64, 0u);
  const std::vector<float> expected = RandomTensor(
      "base_model.model.model.layers.0.self_attn.v_proj.lora_B.weight", 8, 5,
      0.01);
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(static_cast<const Float16*>(v.b.data)[i].bits,
              ToFloat16(expected[i]).bits);
  }
}

}  // namespace
}  // namespace descant
