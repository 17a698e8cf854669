#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "adapters/formats/json.h"
#include "adapters/gguf_lora_plan.h"
#include "adapters/peft_config.h"

namespace descant {
namespace {

// The path behind ".<layer>.": "self_attn.q_proj".
absl::string_view SuffixOf(const BaseModule& module) {
  const absl::string_view path = module.path;
  const std::string layer = absl::StrCat(".", module.layer, ".");
  const size_t at = path.find(layer);
  return at == absl::string_view::npos ? path : path.substr(at + layer.size());
}

absl::string_view LeafOf(absl::string_view path) {
  return path.substr(path.rfind('.') + 1);
}

std::string Escaped(absl::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '.') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

std::string Printable(absl::string_view text) {
  constexpr size_t kMaxBytes = 128;
  std::string printable(text.substr(0, kMaxBytes));
  for (char& c : printable) {
    if (!absl::ascii_isprint(static_cast<unsigned char>(c))) c = '?';
  }
  return printable;
}

// As short as PEFT lets them be: "q_proj" where every layer's is meant and
// nothing else ends so, as people write them; else whole paths.
std::string TargetModules(const std::vector<GgufLoraModule>& modules,
                          const BaseShape& base) {
  std::map<absl::string_view, std::set<absl::string_view>> suffixes_of_leaf;
  std::map<absl::string_view, size_t> in_base;
  for (const BaseModule& module : base.modules) {
    suffixes_of_leaf[LeafOf(module.path)].insert(SuffixOf(module));
    ++in_base[SuffixOf(module)];
  }
  std::map<absl::string_view, std::vector<const BaseModule*>> in_file;
  for (const GgufLoraModule& entry : modules) {
    in_file[SuffixOf(*entry.module)].push_back(entry.module);
  }
  std::vector<std::string> names;
  for (const auto& [suffix, of_suffix] : in_file) {
    if (of_suffix.size() == in_base[suffix]) {
      const absl::string_view leaf = LeafOf(suffix);
      names.push_back(
          JsonQuote(suffixes_of_leaf[leaf].size() == 1 ? leaf : suffix));
      continue;
    }
    for (const BaseModule* module : of_suffix) {
      names.push_back(JsonQuote(module->path));
    }
  }
  return absl::StrCat("[", absl::StrJoin(names, ","), "]");
}

// The modules whose rank is not `common`, as patterns with their rank: one for
// many layers ("(0|3|7)\\.self_attn\\.q_proj"), because patterns are bounded in
// length and in what all of them cost together.
std::string RankPatterns(const std::vector<GgufLoraModule>& modules,
                         int32_t common) {
  constexpr size_t kMaxLayersBytes = kMaxPatternBytes / 2;
  std::map<std::pair<absl::string_view, int32_t>, std::vector<std::string>>
      groups;
  for (const GgufLoraModule& entry : modules) {
    if (entry.rank == common) continue;
    auto& layers = groups[{SuffixOf(*entry.module), entry.rank}];
    const std::string layer = absl::StrCat(entry.module->layer);
    if (layers.empty() ||
        layers.back().size() + layer.size() > kMaxLayersBytes) {
      layers.push_back(layer);
    } else {
      absl::StrAppend(&layers.back(), "|", layer);
    }
  }
  std::vector<std::string> patterns;
  for (const auto& [key, all_layers] : groups) {
    const auto& [suffix, rank] = key;
    for (const std::string& layers : all_layers) {
      patterns.push_back(absl::StrCat(
          JsonQuote(absl::StrCat(absl::StrContains(layers, '|')
                                     ? absl::StrCat("(", layers, ")")
                                     : layers,
                                 "\\.", Escaped(suffix))),
          ":", rank));
    }
  }
  return absl::StrJoin(patterns, ",");
}

}  // namespace

std::string GgufLoraConfig(const std::vector<GgufLoraModule>& modules,
                           const BaseShape& base, float alpha,
                           absl::string_view base_model_name) {
  std::map<int32_t, size_t> counts;
  for (const GgufLoraModule& entry : modules) ++counts[entry.rank];
  const int32_t common = std::max_element(counts.begin(), counts.end(),
                                          [](const auto& x, const auto& y) {
                                            return x.second < y.second;
                                          })
                             ->first;
  const std::string ranks = RankPatterns(modules, common);
  std::string json = absl::StrCat(
      R"({"peft_type":"LORA","task_type":"CAUSAL_LM","r":)", common,
      // All digits, so that it reads back as the same number.
      R"(,"lora_alpha":)",
      alpha == 0 ? absl::StrCat(common)
                 : absl::StrFormat("%.17g", static_cast<double>(alpha)),
      R"(,"target_modules":)", TargetModules(modules, base));
  if (!ranks.empty()) {
    absl::StrAppend(&json, R"(,"rank_pattern":{)", ranks, "}");
    if (alpha == 0) {
      absl::StrAppend(&json, R"(,"alpha_pattern":{)", ranks, "}");
    }
  }
  if (!base_model_name.empty()) {
    absl::StrAppend(&json, R"(,"base_model_name_or_path":)",
                    JsonQuote(Printable(base_model_name)));
  }
  return json + "}";
}

}  // namespace descant
