// Rows 43, 48, 51, 52 and 54: adapter_config.json.
#include "absl/strings/str_cat.h"
#include "tests/adapters/bad_adapters.h"

namespace descant {
namespace {

constexpr char kTarget[] = R"("target_modules":["layers.0.self_attn.q_proj"])";

class Table {
 public:
  void Add(int row, const std::string& what, std::string json,
           const std::string& reason) {
    cases_.push_back({row, what,
                      [json = std::move(json)] {
                        PeftDraft draft;
                        draft.config = json;
                        return PairOutcome(draft);
                      },
                      reason == "OK" ? reason : "INVALID_ARGUMENT " + reason});
  }
  // Beside a good target and rank.
  void AddKey(int row, const std::string& member, const std::string& reason) {
    Add(row, member.substr(0, 60),
        absl::StrCat("{\"r\":2,", kTarget, ",", member, "}"), reason);
  }
  std::vector<BadAdapterCase> Take() { return std::move(cases_); }

 private:
  std::vector<BadAdapterCase> cases_;
};

void AddNumbers(Table* table) {
  for (const char* r :
       {"0", "-1", "513", "2147483648", "4294967298", "-9223372036854775808"}) {
    table->Add(43, absl::StrCat("r ", r),
               absl::StrCat("{\"r\":", r, ",", kTarget, "}"), "ADAPTER_RANK");
    table->AddKey(43, absl::StrCat("\"rank_pattern\":{\"q_proj\":", r, "}"),
                  "ADAPTER_RANK");
  }
  for (const char* r : {"8.0", "2.5", "\"2\"", "true", "1e1", "[2]", "{}",
                        "18446744073709551618"}) {
    table->Add(43, absl::StrCat("r ", r),
               absl::StrCat("{\"r\":", r, ",", kTarget, "}"),
               "ADAPTER_CONFIG_INVALID");
  }
  for (const char* alpha : {"0", "0.0", "-0.0", "1e-400"}) {
    table->AddKey(48, absl::StrCat("\"lora_alpha\":", alpha), "ADAPTER_SCALE");
  }
  for (const char* alpha :
       {"NaN", "Infinity", "-Infinity", "1e999", "+1", ".5", "0x10", "1_000"}) {
    table->AddKey(48, absl::StrCat("\"lora_alpha\":", alpha), "JSON_INVALID");
  }
  for (const char* alpha : {"\"8\"", "true", "[8]", "{}"}) {
    table->AddKey(48, absl::StrCat("\"lora_alpha\":", alpha),
                  "ADAPTER_CONFIG_INVALID");
  }
  table->AddKey(48, R"("alpha_pattern":{"q_proj":0})", "ADAPTER_SCALE");
}

void AddFeatures(Table* table) {
  for (const char* member : {R"("use_dora":true)",
                             R"("use_dora":1)",
                             R"("bias":"all")",
                             R"("bias":"lora_only")",
                             R"("modules_to_save":["lm_head"])",
                             R"("layer_replication":[[0,2]])",
                             R"("lora_bias":true)",
                             R"("megatron_config":{"a":1})",
                             R"("loftq_config":{"loftq_bits":4})",
                             R"("eva_config":{"rho":2})",
                             R"("corda_config":{"beta":1})",
                             R"("lora_ga_config":{"a":1})",
                             R"("trainable_token_indices":[1])",
                             R"("target_parameters":["x"])",
                             R"("alora_invocation_tokens":[1,2])",
                             R"("alora_invocation_string":"<|x|>")",
                             R"("use_qalora":true)",
                             R"("use_bdlora":{"nblocks":2})",
                             R"("arrow_config":{"top_k":3})",
                             R"("kasa_config":{"a":1})",
                             R"("velora_config":{"a":1})",
                             R"("monteclora_config":{"a":1})",
                             R"("ensure_weight_tying":true)",
                             R"("init_lora_weights":"pissa")",
                             R"("init_lora_weights":"olora")",
                             R"("init_lora_weights":"loftq")",
                             R"("init_lora_weights":"corda")",
                             R"("task_type":"SEQ_CLS")",
                             R"("peft_type":"ADALORA")",
                             R"("peft_type":"lora")"}) {
    table->AddKey(51, member, "PEFT_FEATURE_UNSUPPORTED");
  }
  table->AddKey(51, R"("use_dora":false,"bias":"none","modules_to_save":null)",
                "OK");
}

void AddPatterns(Table* table) {
  const auto target = [table](const std::string& pattern,
                              const std::string& reason) {
    table->Add(52,
               absl::StrCat("target_modules ", pattern.substr(0, 40), ", ",
                            pattern.size(), " bytes"),
               absl::StrCat(R"({"r":2,"target_modules":")", pattern, "\"}"),
               reason);
  };
  for (const char* bomb :
       {"(a+)+$", "(a|a)*b", "(.*)*x", "(a*)*(a*)*b", "(a|aa)+$",
        "^(([a-z])+.)+[A-Z]([a-z])+$", "(x+x+)+y", "(.*a){20}"}) {
    target(bomb, "ADAPTER_NO_MODULES");
  }
  for (const char* bad : {"(",
                          ")",
                          "[",
                          "a**",
                          "a{2,1}",
                          "(?=q).*",
                          "(?!q).*",
                          "(?<=x)q",
                          "(?<!x)q",
                          "(a)\\\\1",
                          "(?P<n>a)(?P=n)",
                          "(?>a)",
                          "a*+",
                          "a{,3}",
                          ".*[[:alpha:]]",
                          "((a{100}){100}){100}",
                          "a{1001}",
                          "\\\\Z",
                          "\\\\u0041",
                          "(?i",
                          "\\\\"}) {
    target(bad, "ADAPTER_CONFIG_PATTERN");
  }
  target(std::string(1025, 'a'), "ADAPTER_CONFIG_PATTERN");
  target(std::string(1024, 'a'), "ADAPTER_NO_MODULES");
  table->AddKey(52, R"("rank_pattern":{"(":2})", "ADAPTER_CONFIG_PATTERN");
  table->AddKey(52, R"x("alpha_pattern":{"(?=x)":2})x",
                "ADAPTER_CONFIG_PATTERN");
  table->AddKey(52, R"x("exclude_modules":"(?!x)")x", "ADAPTER_CONFIG_PATTERN");
  std::string many = R"("rank_pattern":{"x":2)";
  for (int i = 0; i < 2000; ++i) absl::StrAppend(&many, ",\"x", i, "\":2");
  table->AddKey(52, many + "}", "ADAPTER_CONFIG_INVALID");
  std::string costly = R"("rank_pattern":{"x":2)";
  for (int i = 0; i < 900; ++i) {
    absl::StrAppend(&costly, ",\"x{900}", i, "\":2");
  }
  table->Add(52, "900 costly patterns",
             absl::StrCat("{", kTarget, ",", costly, "}}"),
             "ADAPTER_CONFIG_PATTERN");
}

void AddTexts(Table* table) {
  const std::string good = absl::StrCat("{\"r\":2,", kTarget, "}");
  table->Add(54, "10 MB",
             absl::StrCat("{\"revision\":\"", std::string(10 << 20, 'x'),
                          "\",\"r\":2,", kTarget, "}"),
             "JSON_TOO_LARGE");
  table->Add(54, "one byte over 64 KiB",
             good + std::string((64 << 10) + 1 - good.size(), ' '),
             "JSON_TOO_LARGE");
  table->Add(54, "64 KiB", good + std::string((64 << 10) - good.size(), ' '),
             "OK");
  table->Add(54, "byte-order mark", "\xef\xbb\xbf" + good, "JSON_INVALID");
  table->Add(54, "UTF-16", std::string("\xff\xfe{\0}\0", 6), "JSON_INVALID");
  table->Add(54, "comment", "/* */" + good, "JSON_INVALID");
  table->Add(54, "line comment", good + " // x", "JSON_INVALID");
  table->Add(54, "trailing comma", absl::StrCat("{\"r\":2,", kTarget, ",}"),
             "JSON_INVALID");
  table->Add(54, "two objects", good + good, "JSON_INVALID");
  table->Add(54, "cut off", good.substr(0, good.size() - 1), "JSON_INVALID");
  table->Add(54, "not UTF-8", "{\"r\":2,\"revision\":\"\xff\"}",
             "JSON_INVALID");
  table->Add(54, "NUL", good + std::string(1, '\0'), "JSON_INVALID");
  table->Add(54, "empty", "", "JSON_INVALID");
  table->Add(54, "YAML", "r: 2\n", "JSON_INVALID");
  table->Add(54, "pickle", "\x80\x04}q.", "JSON_INVALID");
  table->Add(54, "1,000 deep",
             absl::StrCat("{\"revision\":", std::string(1000, '['), "}"),
             "JSON_TOO_DEEP");
  table->AddKey(54,
                "\"revision\":" + std::string(17, '[') + std::string(17, ']'),
                "JSON_TOO_DEEP");
  table->AddKey(54, R"("r":2)", "JSON_DUPLICATE_KEY");
  table->AddKey(54, R"("\u0072":2)", "JSON_DUPLICATE_KEY");
  const std::string unknown = "ADAPTER_CONFIG_UNKNOWN_KEY";
  table->AddKey(54, R"("auto_map":{"LoraModel":"evil.Model"})", unknown);
  table->AddKey(54, R"("auto_map":null)", unknown);
  table->AddKey(54, R"("new_feature":true)", unknown);
  table->AddKey(54, R"("__class__":"os.system")", unknown);
  for (const char* json : {"[]", "null", "2", "\"x\""}) {
    table->Add(54, absl::StrCat("root ", json), json, "ADAPTER_CONFIG_INVALID");
  }
  table->Add(54, "no target_modules", R"({"r":2})", "ADAPTER_CONFIG_INVALID");
  for (const char* target :
       {"17", "{}", "[1]", "[\"\"]", "[[\"q_proj\"]]", "true"}) {
    table->Add(54, absl::StrCat("target_modules ", target),
               absl::StrCat("{\"r\":2,\"target_modules\":", target, "}"),
               "ADAPTER_CONFIG_INVALID");
  }
  for (const char* target : {"[]", "\"\"", "[\"lm_head\"]"}) {
    table->Add(54, absl::StrCat("target_modules ", target),
               absl::StrCat("{\"r\":2,\"target_modules\":", target, "}"),
               "ADAPTER_NO_MODULES");
  }
  table->AddKey(54, R"("layers_to_transform":[-1])", "ADAPTER_CONFIG_INVALID");
  table->AddKey(54, R"("layers_to_transform":[4294967296])",
                "ADAPTER_CONFIG_INVALID");
  table->AddKey(54, R"("layers_pattern":"layers")", "ADAPTER_CONFIG_INVALID");
  table->AddKey(54, R"("use_rslora":1)", "ADAPTER_CONFIG_INVALID");
  table->AddKey(54, R"("base_model_name_or_path":7)", "ADAPTER_CONFIG_INVALID");
}

}  // namespace

std::vector<BadAdapterCase> BadConfigFiles() {
  Table table;
  AddNumbers(&table);
  AddFeatures(&table);
  AddPatterns(&table);
  AddTexts(&table);
  return table.Take();
}

}  // namespace descant
