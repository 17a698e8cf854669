#include "adapters/peft_config.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "adapters/formats/json.h"

namespace descant {
namespace {

// PEFT's own rule where there is no layers_pattern: the first numbered
// segment after two named ones.
const PeftPattern& AnyLayerPattern() {
  static const auto* pattern = new PeftPattern(
      *PeftPattern::Compile("[^.]*", PeftPattern::kFirstIndex, ""));
  return *pattern;
}

bool EndsWithModule(absl::string_view path, absl::string_view name) {
  return path.size() > name.size() && absl::EndsWith(path, name) &&
         path[path.size() - name.size() - 1] == '.';
}

bool ListSelects(const ModuleNames& names, absl::string_view path) {
  return std::any_of(names.begin(), names.end(), [path](const auto& name) {
    return path == name || EndsWithModule(path, name);
  });
}

bool Selects(const ModuleSelector& selector, absl::string_view path) {
  if (const auto* names = std::get_if<ModuleNames>(&selector)) {
    return ListSelects(*names, path);
  }
  if (const auto* pattern = std::get_if<PeftPattern>(&selector)) {
    return pattern->Matches(path);
  }
  return true;
}

// The layer filter of a list of names.
bool InLayers(const PeftConfig& config, absl::string_view path) {
  std::string digits;
  if (config.layers_pattern.empty()) {
    if (!AnyLayerPattern().FindLayer(path, &digits)) return false;
  } else {
    const bool found =
        std::any_of(config.layers_pattern.begin(), config.layers_pattern.end(),
                    [&](const auto& p) { return p.FindLayer(path, &digits); });
    if (!found) return false;
  }
  int64_t layer = -1;
  if (!absl::SimpleAtoi(digits, &layer)) return false;
  const auto& layers = *config.layers_to_transform;
  return std::find(layers.begin(), layers.end(), layer) != layers.end();
}

template <typename T>
T FirstMatch(const std::vector<std::pair<PeftPattern, T>>& patterns,
             absl::string_view path, T otherwise) {
  for (const auto& [pattern, value] : patterns) {
    if (pattern.Matches(path)) return value;
  }
  return otherwise;
}

// Reads back as the same double.
std::string NumberText(double value) { return absl::StrFormat("%.17g", value); }

std::string SelectorText(const ModuleSelector& selector) {
  if (const auto* names = std::get_if<ModuleNames>(&selector)) {
    ModuleNames sorted = *names;
    std::sort(sorted.begin(), sorted.end());
    sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
    return absl::StrCat(
        "[",
        absl::StrJoin(sorted, ",",
                      [](std::string* out, const std::string& name) {
                        out->append(JsonQuote(name));
                      }),
        "]");
  }
  if (const auto* pattern = std::get_if<PeftPattern>(&selector)) {
    return JsonQuote(pattern->text());
  }
  return "\"all-linear\"";
}

}  // namespace

bool PeftConfig::Targets(const BaseModule& module) const {
  const absl::string_view path = module.path;
  if (exclude_modules.has_value() && Selects(*exclude_modules, path)) {
    return false;
  }
  if (!Selects(target_modules, path)) return false;
  const auto* names = std::get_if<ModuleNames>(&target_modules);
  if (names == nullptr || !layers_to_transform.has_value() ||
      layers_to_transform->empty()) {
    return true;
  }
  // PEFT asks a module that is named in full nothing more.
  if (std::find(names->begin(), names->end(), path) != names->end()) {
    return true;
  }
  return InLayers(*this, path);
}

int32_t PeftConfig::RankOf(absl::string_view module_path) const {
  return FirstMatch(rank_pattern, module_path, r);
}

double PeftConfig::AlphaOf(absl::string_view module_path) const {
  return FirstMatch(alpha_pattern, module_path, lora_alpha);
}

double PeftConfig::ScaleOf(absl::string_view module_path) const {
  const double rank = RankOf(module_path);
  return AlphaOf(module_path) / (use_rslora ? std::sqrt(rank) : rank);
}

std::string CanonicalConfig(const PeftConfig& config) {
  const auto patterns = [](const auto& entries) {
    return absl::StrJoin(entries, ",", [](std::string* out, const auto& entry) {
      absl::StrAppend(out, "[", JsonQuote(entry.first.text()), ",",
                      NumberText(entry.second), "]");
    });
  };
  std::string text =
      absl::StrCat("{\"alpha_pattern\":[", patterns(config.alpha_pattern), "]");
  if (config.exclude_modules.has_value()) {
    absl::StrAppend(
        &text, ",\"exclude_modules\":", SelectorText(*config.exclude_modules));
  }
  if (!config.layers_pattern.empty()) {
    absl::StrAppend(
        &text, ",\"layers_pattern\":[",
        absl::StrJoin(config.layers_pattern, ",",
                      [](std::string* out, const PeftPattern& pattern) {
                        out->append(JsonQuote(pattern.text()));
                      }),
        "]");
  }
  if (config.layers_to_transform.has_value() &&
      !config.layers_to_transform->empty()) {
    std::vector<int64_t> layers = *config.layers_to_transform;
    std::sort(layers.begin(), layers.end());
    layers.erase(std::unique(layers.begin(), layers.end()), layers.end());
    absl::StrAppend(&text, ",\"layers_to_transform\":[",
                    absl::StrJoin(layers, ","), "]");
  }
  absl::StrAppend(
      &text, ",\"lora_alpha\":", NumberText(config.lora_alpha),
      ",\"r\":", config.r, ",\"rank_pattern\":[", patterns(config.rank_pattern),
      "],\"target_modules\":", SelectorText(config.target_modules),
      ",\"use_rslora\":", config.use_rslora ? "true" : "false", "}");
  return text;
}

std::vector<std::string> ServedPeftFeatures() {
  return {"target_modules",
          "target_modules_regex",
          "all-linear",
          "exclude_modules",
          "rank_pattern",
          "alpha_pattern",
          "rslora",
          "layers_to_transform",
          "layers_pattern",
          "F32",
          "F16",
          "BF16"};
}

}  // namespace descant
