// Every limit ends a template or a render with its error, in bounded time.
#include "runtime/tokenizer/jinja/limits.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "runtime/base/reason.h"
#include "runtime/tokenizer/jinja/json_value.h"
#include "runtime/tokenizer/jinja/template.h"

namespace descant::jinja {
namespace {

using testing::HasSubstr;

std::string Repeat(absl::string_view text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) absl::StrAppend(&out, text);
  return out;
}

absl::StatusOr<std::string> Render(const std::string& text) {
  auto parsed = Template::Parse(text);
  if (!parsed.ok()) return parsed.status();
  const std::string json =
      absl::StrCat("[", Repeat("{\"a\":\"b\"},", 999), "{}]");
  return parsed->Render({{"messages", *ParseJson(json)}}, FormatLocalTime);
}

TEST(JinjaLimitsTest, TemplatesBeyondThemAreRefused) {
  const std::pair<std::string, std::string> cases[] = {
      {std::string(kMaxTemplateBytes + 1, 'x'), "longer than"},
      {"{{ " + Repeat("(", 101) + "1" + Repeat(")", 101) + " }}", "too deeply"},
      {"{{ " + Repeat("[", 5000) + Repeat("]", 5000) + " }}", "too deeply"},
      {"{{ " + Repeat("-", 5000) + "1 }}", "too deeply"},
      {"{{ " + Repeat("not ", 5000) + "1 }}", "too deeply"},
      {"{{ 1" + Repeat(" + 1", 5000) + " }}", "too deeply"},
      {"{{ a" + Repeat(".b", 5000) + " }}", "too deeply"},
      {"{{ a" + Repeat("|trim", 5000) + " }}", "too deeply"},
      {"{{ 1" + Repeat(" if 1 else 1", 5000) + " }}", "too deeply"},
      {Repeat("{% if 1 %}", 5000) + Repeat("{% endif %}", 5000), "too deeply"},
      {"{{ '\xff' }}", "UTF-8"},
  };
  for (const auto& [text, message] : cases) {
    const auto result = Render(text);
    EXPECT_EQ(result.status().code(), absl::StatusCode::kFailedPrecondition)
        << text.substr(0, 60);
    EXPECT_EQ(ReasonOf(result.status()), "CHAT_TEMPLATE");
    EXPECT_THAT(std::string(result.status().message()), HasSubstr(message))
        << text.substr(0, 60);
  }
  EXPECT_TRUE(Render("{{ 1" + Repeat(" + 1", 200) + " }}").ok());
  EXPECT_TRUE(
      Render("{{ " + Repeat("(", 40) + "1" + Repeat(")", 40) + " }}").ok());
}

TEST(JinjaLimitsTest, RendersBeyondThemEndInTime) {
  const std::string doubling =
      "{% set ns = namespace(x='ab') %}{% for i in range(60) %}"
      "{% set ns.x = ns.x + ns.x %}{% endfor %}";
  const std::string sharing =
      "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}"
      "{% set ns.x = [ns.x, ns.x] %}{% endfor %}";
  const std::pair<std::string, std::string> cases[] = {
      {"{% for a in messages %}{% for b in messages %}{% for c in messages %}"
       "{{ c.a }}{% endfor %}{% endfor %}{% endfor %}",
       "steps"},
      {"{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}"
       "{% endfor %}",
       "steps"},
      {doubling, "bytes"},
      {"{% set x = 'abcdefgh' * 10000000000 %}", "bytes"},
      {"{% set x = [1] * 10000000000 %}", "steps"},
      {"{% set x = 'a'.center(10000000000) %}", "bytes"},
      {"{% set x = ('a' * 1000000).replace('a', 'b' * 1000000) %}", "bytes"},
      {"{% set x = '-' * 1000000 %}{{ x.join(x) }}", "bytes"},
      {"{% for a in messages %}" + std::string(60000, 'x') + "{% endfor %}",
       "more than"},
      {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "too deeply"},
      {"{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
       "too deeply"},
      {"{% set ns = namespace(x=[]) %}{% for i in range(1000) %}"
       "{% set ns.x = [ns.x] %}{% endfor %}",
       "nested too deeply"},
      {"{% set ns = namespace(x={}) %}{% for i in range(1000) %}"
       "{% set ns.x = {'a': ns.x} %}{% endfor %}",
       "nested too deeply"},
      {sharing + "{{ ns.x }}", "steps"},
      {sharing + "{{ ns.x | tojson }}", "steps"},
      {sharing + "{% set y = ns.x %}{{ y == y + [1] }}{{ [y] == [y, 1][:1] }}"
                 "{{ ns.x | string }}",
       "steps"},
      {"{% for a in range(3000) %}{{ messages | tojson | length }}"
       "{% endfor %}",
       "steps"},
      {"{% set t = 'x' * 100000 %}{% for a in range(100000) %}{{ t[a] }}"
       "{% endfor %}",
       "bytes"},
      {"{{ range(100001) }}", "Range too big"},
      {"{{ 2 ** 62 * 4 }}", "64 bits"},
      {"{{ 10 ** 100 }}", "64 bits"},
  };
  for (const auto& [text, message] : cases) {
    SCOPED_TRACE(text.substr(0, 100));
    const auto start = std::chrono::steady_clock::now();
    const auto result = Render(text);
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
            .count();
    EXPECT_LT(seconds, 30);
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(ReasonOf(result.status()), "CHAT_TEMPLATE_RENDER");
    EXPECT_THAT(std::string(result.status().message()), HasSubstr(message));
  }
}

TEST(JinjaLimitsTest, WhatLooksLikeACycleIsFreed) {
  EXPECT_EQ(
      *Render("{% set a = namespace() %}{% set b = namespace(a=a) %}"
              "{% set a.b = b %}{% set a.a = [a] %}{{ a.b.a.b is defined }}"
              "{% macro m() %}{% endmacro %}{% set a.m = m %}"
              "{% for x in [a] %}{% set a.loop = loop %}{% endfor %}"
              "{{ a.loop.index }}"),
      "True1");
}

}  // namespace
}  // namespace descant::jinja
