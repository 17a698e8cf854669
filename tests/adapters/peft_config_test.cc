// PEFT's semantics, and rows 43, 48, 51, 52 and 54 of the bad-input table.
#include "adapters/peft_config.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "tests/adapters/adapter_fixture.h"

namespace descant {
namespace {

// `fields` are added to a minimal good config.
std::string Config(const std::string& fields) {
  return "{\"peft_type\":\"LORA\",\"target_modules\":[\"q_proj\"]" +
         (fields.empty() ? "" : "," + fields) + "}";
}

std::string Parse(const std::string& json) {
  return Outcome(ParsePeftConfig(json, 64).status());
}

// What a config targets of the tiny base: "0q 1q".
std::string Targets(const std::string& json) {
  constexpr char kLetters[] = "qkvogud";
  const auto config = ParsePeftConfig(json, 64);
  if (!config.ok()) return Outcome(config.status());
  std::vector<std::string> hits;
  for (const BaseModule& module : TinyBase().modules) {
    if (config->Targets(module)) {
      hits.push_back(absl::StrCat(
          module.layer,
          std::string(1, kLetters[static_cast<int>(module.kind)])));
    }
  }
  return absl::StrJoin(hits, " ");
}

TEST(PeftConfigTest, TargetsByList) {
  EXPECT_EQ(Targets(R"({"target_modules":["q_proj","v_proj"]})"),
            "0q 0v 1q 1v");
  EXPECT_EQ(Targets(R"({"target_modules":["layers.1.mlp.up_proj"]})"), "1u");
  EXPECT_EQ(
      Targets(R"({"target_modules":["model.layers.0.self_attn.k_proj"]})"),
      "0k");
  // The last parts of a path, not the last letters.
  EXPECT_EQ(Targets(R"({"target_modules":["_proj","proj"]})"), "");
}

TEST(PeftConfigTest, TargetsByPatternAreFullMatches) {
  EXPECT_EQ(Targets(R"j({"target_modules":)j"
                    R"j(".*\\.(self_attn\\.(k|o)_proj|mlp\\.up_proj)"})j"),
            "0k 0o 0u 1k 1o 1u");
  EXPECT_EQ(Targets(R"({"target_modules":"q_proj"})"), "");
  EXPECT_EQ(Targets(R"({"target_modules":".*q_proj"})"), "0q 1q");
  EXPECT_EQ(Targets(R"({"target_modules":"ALL-linear"})"),
            "0q 0k 0v 0o 0g 0u 0d 1q 1k 1v 1o 1g 1u 1d");
}

TEST(PeftConfigTest, ExcludeModules) {
  EXPECT_EQ(Targets(R"({"target_modules":["q_proj","k_proj"],)"
                    R"("exclude_modules":["layers.0.self_attn.q_proj"]})"),
            "0k 1q 1k");
  EXPECT_EQ(Targets(R"({"target_modules":["q_proj","k_proj"],)"
                    R"("exclude_modules":".*\\.1\\..*"})"),
            "0q 0k");
  EXPECT_EQ(Targets(R"({"target_modules":["q_proj"],"exclude_modules":[]})"),
            "0q 1q");
}

TEST(PeftConfigTest, LayersToTransform) {
  EXPECT_EQ(Targets(Config(R"("layers_to_transform":[1])")), "1q");
  EXPECT_EQ(Targets(Config(R"("layers_to_transform":0)")), "0q");
  EXPECT_EQ(Targets(Config(R"("layers_to_transform":[])")), "0q 1q");
  EXPECT_EQ(Targets(Config(R"("layers_to_transform":[1],)"
                           R"("layers_pattern":"layers")")),
            "1q");
  EXPECT_EQ(Targets(Config(R"("layers_to_transform":[1],)"
                           R"("layers_pattern":["h","layers"])")),
            "1q");
  EXPECT_EQ(Targets(Config(R"("layers_to_transform":[1],)"
                           R"("layers_pattern":["h"])")),
            "");
  // A module named in full is not filtered.
  EXPECT_EQ(Targets(R"({"target_modules":["model.layers.0.mlp.up_proj",)"
                    R"("q_proj"],"layers_to_transform":[1]})"),
            "0u 1q");
}

TEST(PeftConfigTest, PatternsMatchSuffixesInOrder) {
  const auto config = ParsePeftConfig(
      Config(R"("r":4,"lora_alpha":8,)"
             R"("rank_pattern":{"layers.1.mlp.down_proj":3,"down_proj":16,)"
             R"("(q|k)_proj":5},)"
             R"("alpha_pattern":{"v_proj":24,"layers.0.self_attn.q_proj":2})"),
      64);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->RankOf("model.layers.1.mlp.down_proj"), 3);
  EXPECT_EQ(config->RankOf("model.layers.0.mlp.down_proj"), 16);
  EXPECT_EQ(config->RankOf("model.layers.0.self_attn.k_proj"), 5);
  EXPECT_EQ(config->RankOf("model.layers.0.self_attn.xk_proj"), 4);
  EXPECT_EQ(config->RankOf("model.layers.0.self_attn.q_proj.x"), 4);
  EXPECT_EQ(config->AlphaOf("model.layers.0.self_attn.q_proj"), 2);
  EXPECT_EQ(config->AlphaOf("model.layers.1.self_attn.q_proj"), 8);
  EXPECT_EQ(config->ScaleOf("model.layers.1.self_attn.v_proj"), 6);
}

TEST(PeftConfigTest, ScaleOfRsLora) {
  const auto config =
      ParsePeftConfig(Config(R"("r":16,"lora_alpha":8,"use_rslora":true)"), 64);
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->ScaleOf("q_proj"), 2);
}

TEST(PeftConfigTest, DefaultsArePefts) {
  const auto config = ParsePeftConfig(Config(""), 64);
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->r, 8);
  EXPECT_EQ(config->lora_alpha, 8);
  EXPECT_FALSE(config->use_rslora);
}

// As PEFT 0.21.2 writes it.
TEST(PeftConfigTest, AcceptsWhatPeftSaves) {
  EXPECT_EQ(
      Parse(
          R"({"alora_invocation_tokens":null,"alpha_pattern":{},)"
          R"("arrow_config":null,"auto_mapping":null,)"
          R"("base_model_name_or_path":"x","bias":"none","corda_config":null,)"
          R"("ensure_weight_tying":false,"eva_config":null,)"
          R"("exclude_modules":null,"fan_in_fan_out":false,)"
          R"("inference_mode":true,"init_lora_weights":true,)"
          R"("kasa_config":null,"layer_replication":null,)"
          R"("layers_pattern":null,"layers_to_transform":null,)"
          R"("loftq_config":{},"lora_alpha":16,"lora_bias":false,)"
          R"("lora_dropout":0.0,"lora_ga_config":null,)"
          R"("megatron_config":null,"megatron_core":"megatron.core",)"
          R"("modules_to_save":null,"monteclora_config":null,)"
          R"("peft_type":"LORA","peft_version":"0.21.2",)"
          R"("qalora_group_size":16,"r":8,"rank_pattern":{},)"
          R"("revision":null,"target_modules":["q_proj","v_proj"],)"
          R"("target_parameters":null,"task_type":"CAUSAL_LM",)"
          R"("trainable_token_indices":null,"use_bdlora":null,)"
          R"("use_dora":false,"use_qalora":false,"use_rslora":false,)"
          R"("velora_config":null})"),
      "OK");
}

struct BadConfig {
  std::string what;
  std::string json;
  std::string reason;
  std::string field;
};
void PrintTo(const BadConfig& bad, std::ostream* out) { *out << bad.what; }

std::vector<BadConfig> BadConfigs() {
  std::vector<BadConfig> cases;
  for (const char* r : {"0", "-1", "65", "2147483648", "18446744073709551616",
                        "8.0", "\"8\"", "true", "1e1"}) {
    const bool typed = std::string(r) != "0" && std::string(r) != "-1" &&
                       std::string(r) != "65" && std::string(r) != "2147483648";
    cases.push_back({absl::StrCat("row 43: r ", r),
                     Config(absl::StrCat("\"r\":", r)),
                     typed ? "ADAPTER_CONFIG_INVALID" : "ADAPTER_RANK",
                     "adapter_config.r"});
  }
  cases.push_back({"row 43: rank in a pattern",
                   Config(R"("rank_pattern":{"q_proj":65})"), "ADAPTER_RANK",
                   "adapter_config.rank_pattern"});
  cases.push_back({"row 48: alpha 0", Config(R"("lora_alpha":0)"),
                   "ADAPTER_SCALE", "adapter_config.lora_alpha"});
  cases.push_back({"row 48: alpha -0.0", Config(R"("lora_alpha":-0.0)"),
                   "ADAPTER_SCALE", "adapter_config.lora_alpha"});
  for (const char* alpha : {"NaN", "Infinity", "-Infinity", "1e999"}) {
    cases.push_back({absl::StrCat("row 48: alpha ", alpha),
                     Config(absl::StrCat("\"lora_alpha\":", alpha)),
                     "JSON_INVALID", "adapter_config"});
  }
  cases.push_back({"row 48: alpha text", Config(R"("lora_alpha":"8")"),
                   "ADAPTER_CONFIG_INVALID", "adapter_config.lora_alpha"});
  const std::pair<const char*, const char*> features[] = {
      {"use_dora", "true"},
      {"bias", "\"all\""},
      {"bias", "\"lora_only\""},
      {"modules_to_save", "[\"lm_head\"]"},
      {"layer_replication", "[[0,2]]"},
      {"lora_bias", "true"},
      {"megatron_config", "{\"a\":1}"},
      {"loftq_config", "{\"loftq_bits\":4}"},
      {"eva_config", "{\"rho\":2}"},
      {"corda_config", "{\"beta\":1}"},
      {"lora_ga_config", "{\"a\":1}"},
      {"trainable_token_indices", "[1]"},
      {"target_parameters", "[\"x\"]"},
      {"alora_invocation_tokens", "[1,2]"},
      {"use_qalora", "true"},
      {"use_bdlora", "{\"nblocks\":2}"},
      {"arrow_config", "{\"top_k\":3}"},
      {"kasa_config", "{\"a\":1}"},
      {"velora_config", "{\"a\":1}"},
      {"monteclora_config", "{\"a\":1}"},
      {"ensure_weight_tying", "true"},
      {"init_lora_weights", "\"pissa\""},
      {"init_lora_weights", "\"olora\""},
      {"init_lora_weights", "\"loftq\""},
      {"init_lora_weights", "\"corda\""},
      {"task_type", "\"SEQ_CLS\""},
      {"peft_type", "\"ADALORA\""}};
  for (const auto& [key, value] : features) {
    // A key of the minimal config is written once.
    const std::string json =
        absl::string_view(key) == "peft_type"
            ? absl::StrCat("{\"target_modules\":[\"q_proj\"],\"", key,
                           "\":", value, "}")
            : Config(absl::StrCat("\"", key, "\":", value));
    cases.push_back({absl::StrCat("row 51: ", key, " ", value), json,
                     "PEFT_FEATURE_UNSUPPORTED",
                     absl::StrCat("adapter_config.", key)});
  }
  const auto pattern = [](const std::string& text) {
    return absl::StrCat(R"({"target_modules":)", text, "}");
  };
  const std::string target = "adapter_config.target_modules";
  for (const char* bad :
       {"(", "(?=q).*", "(a)\\\\1", "(?<!x)q", "a**", "[", "a{,3}",
        ".*[[:alpha:]]", "((a{100}){100}){100}", "(?P<n>a)(?P=n)"}) {
    cases.push_back({absl::StrCat("row 52: pattern ", bad),
                     pattern(absl::StrCat("\"", bad, "\"")),
                     "ADAPTER_CONFIG_PATTERN", target});
  }
  cases.push_back({"row 52: pattern over 1 KiB",
                   pattern("\"" + std::string(1025, 'a') + "\""),
                   "ADAPTER_CONFIG_PATTERN", target});
  cases.push_back({"row 52: invalid key of rank_pattern",
                   Config(R"("rank_pattern":{"(":1})"),
                   "ADAPTER_CONFIG_PATTERN", "adapter_config.rank_pattern"});
  cases.push_back(
      {"row 54: 10 MB",
       Config("\"revision\":\"" + std::string(10 << 20, 'x') + "\""),
       "JSON_TOO_LARGE", "adapter_config"});
  cases.push_back({"row 54: byte-order mark", "\xef\xbb\xbf" + Config(""),
                   "JSON_INVALID", "adapter_config"});
  cases.push_back({"row 54: comment", "/* */" + Config(""), "JSON_INVALID",
                   "adapter_config"});
  cases.push_back({"row 54: trailing comma", R"({"r":8,})", "JSON_INVALID",
                   "adapter_config"});
  cases.push_back({"row 54: auto_map", Config(R"("auto_map":{"A":"m.py"})"),
                   "ADAPTER_CONFIG_UNKNOWN_KEY", "adapter_config.auto_map"});
  cases.push_back({"row 54: auto_map null", Config(R"("auto_map":null)"),
                   "ADAPTER_CONFIG_UNKNOWN_KEY", "adapter_config.auto_map"});
  cases.push_back({"row 54: deep",
                   Config("\"revision\":" + std::string(1000, '[')),
                   "JSON_TOO_DEEP", "adapter_config"});
  cases.push_back({"row 54: key twice", Config(R"("r":8,"r":8)"),
                   "JSON_DUPLICATE_KEY", "adapter_config"});
  cases.push_back({"unknown key", Config(R"("new_feature":true)"),
                   "ADAPTER_CONFIG_UNKNOWN_KEY", "adapter_config.new_feature"});
  cases.push_back(
      {"not an object", "[]", "ADAPTER_CONFIG_INVALID", "adapter_config"});
  cases.push_back(
      {"no target_modules", R"({"r":8})", "ADAPTER_CONFIG_INVALID", target});
  cases.push_back({"layers with a pattern",
                   R"({"target_modules":".*","layers_to_transform":[1]})",
                   "ADAPTER_CONFIG_INVALID", target});
  cases.push_back({"layers_pattern alone", Config(R"("layers_pattern":"h")"),
                   "ADAPTER_CONFIG_INVALID", "adapter_config.layers_pattern"});
  cases.push_back({"negative layer", Config(R"("layers_to_transform":[-1])"),
                   "ADAPTER_CONFIG_INVALID",
                   "adapter_config.layers_to_transform"});
  return cases;
}

class BadConfigTest : public testing::TestWithParam<BadConfig> {};

TEST_P(BadConfigTest, IsRefusedByName) {
  const BadConfig& bad = GetParam();
  const absl::Status status = ParsePeftConfig(bad.json, 64).status();
  EXPECT_EQ(Outcome(status), "INVALID_ARGUMENT " + bad.reason) << status;
  EXPECT_EQ(FieldOf(status), bad.field);
}

INSTANTIATE_TEST_SUITE_P(Rows, BadConfigTest, testing::ValuesIn(BadConfigs()));

// Exponential for a backtracking engine.
TEST(PeftConfigTest, Row52BacktrackingBombsAreLinear) {
  const auto start = std::chrono::steady_clock::now();
  const std::string victim(5000, 'a');
  for (const char* bomb : {"(a+)+$", "(a|a)*b", "(.*)*x", "(a*)*(a*)*b",
                           "(a|aa)+$", "^(([a-z])+.)+[A-Z]([a-z])+$"}) {
    const auto pattern =
        PeftPattern::Compile(bomb, PeftPattern::kFullMatch, "f");
    ASSERT_TRUE(pattern.ok()) << bomb;
    pattern->Matches(victim + "!");
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
}

TEST(PeftConfigTest, Row52ManyLargePatternsAreCapped) {
  std::string fields = "\"rank_pattern\":{";
  for (int i = 0; i < 900; ++i) {
    absl::StrAppend(&fields, i == 0 ? "" : ",", "\"x{900}", i, "\":1");
  }
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(Parse(Config(fields + "}")),
            "INVALID_ARGUMENT ADAPTER_CONFIG_PATTERN");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
}

TEST(PeftConfigTest, CanonicalFormDropsWhatDoesNotCount) {
  const auto canonical = [](const std::string& json) {
    const auto config = ParsePeftConfig(json, 64);
    return config.ok() ? CanonicalConfig(*config) : Outcome(config.status());
  };
  const std::string a = canonical(
      R"({"r":8,"lora_alpha":16,"target_modules":["v_proj","q_proj"]})");
  EXPECT_EQ(a, canonical(R"({"target_modules":["q_proj","v_proj","q_proj"],)"
                         R"("lora_alpha":16.0,"lora_dropout":0.5,"r":8,)"
                         R"("peft_version":"1"})"));
  EXPECT_NE(a, canonical(R"({"r":8,"lora_alpha":15,)"
                         R"("target_modules":["v_proj","q_proj"]})"));
  EXPECT_NE(canonical(Config(R"("rank_pattern":{"a":1,"b":2})")),
            canonical(Config(R"("rank_pattern":{"b":2,"a":1})")));
  EXPECT_NE(canonical(R"({"target_modules":["all-linear"]})"),
            canonical(R"({"target_modules":"all-linear"})"));
}

}  // namespace
}  // namespace descant
