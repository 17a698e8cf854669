#include "runtime/tokenizer/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace descant {
namespace {

std::vector<size_t> Failure(const std::string& text) {
  std::vector<size_t> failure(text.size(), 0);
  size_t length = 0;
  for (size_t i = 1; i < text.size(); ++i) {
    while (length > 0 && text[i] != text[length]) length = failure[length - 1];
    if (text[i] == text[length]) ++length;
    failure[i] = length;
  }
  return failure;
}

}  // namespace

StopMatcher::StopMatcher(std::vector<std::string> stops) {
  for (size_t i = 0; i < stops.size(); ++i) {
    if (stops[i].empty()) continue;
    Stop stop;
    stop.failure = Failure(stops[i]);
    stop.text = std::move(stops[i]);
    stop.index = static_cast<int>(i);
    stops_.push_back(std::move(stop));
  }
}

std::string StopMatcher::Append(absl::string_view delta, bool may_match) {
  if (matched()) return "";
  std::string text = std::move(held_);
  held_.clear();
  for (const char c : delta) {
    text.push_back(c);
    size_t matched_length = 0;
    for (Stop& stop : stops_) {
      while (stop.length > 0 && stop.text[stop.length] != c) {
        stop.length = stop.failure[stop.length - 1];
      }
      if (stop.text[stop.length] == c) ++stop.length;
      if (stop.length < stop.text.size()) continue;
      if (!may_match) {
        stop.length = stop.failure[stop.length - 1];
      } else if (stop.length > matched_length) {
        matched_length = stop.length;
        matched_ = stop.index;
      }
    }
    if (matched()) {
      text.resize(text.size() - matched_length);
      return text;
    }
  }
  size_t hold = 0;
  for (const Stop& stop : stops_) hold = std::max(hold, stop.length);
  held_ = text.substr(text.size() - hold);
  text.resize(text.size() - hold);
  return text;
}

std::string StopMatcher::Flush() {
  if (matched()) return "";
  for (Stop& stop : stops_) stop.length = 0;
  return std::exchange(held_, "");
}

}  // namespace descant
