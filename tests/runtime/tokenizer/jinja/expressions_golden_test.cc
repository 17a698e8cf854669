// Small templates for every construct against jinja2 itself.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "runtime/base/reason.h"
#include "runtime/tokenizer/jinja/json_value.h"
#include "runtime/tokenizer/jinja/template.h"
#include "tests/runtime/tokenizer/jinja/golden_files.h"

namespace descant::jinja {
namespace {

using Json = nlohmann::ordered_json;

TEST(JinjaGoldenTest, RendersAsJinja2Does) {
  const Json golden = ReadGolden("jinja_expressions.json");
  std::vector<std::pair<std::string, Value>> variables;
  for (const auto& [name, json] : golden["variables"].items()) {
    auto value = ParseJson(json.dump());
    ASSERT_TRUE(value.ok()) << value.status();
    variables.emplace_back(name, *std::move(value));
  }
  int rendered = 0;
  int refused = 0;
  for (const Json& item : golden["cases"]) {
    const std::string text = item[0];
    SCOPED_TRACE(text);
    const auto parsed = Template::Parse(text);
    if (item[1].is_null() && item[2] == "syntax") {
      EXPECT_EQ(parsed.status().code(), absl::StatusCode::kFailedPrecondition);
      EXPECT_EQ(ReasonOf(parsed.status()), "CHAT_TEMPLATE");
      ++refused;
      continue;
    }
    if (!parsed.ok()) {
      ADD_FAILURE() << parsed.status();
      continue;
    }
    const auto result = parsed->Render(variables, StillClock);
    if (!item[1].is_null()) {
      ++rendered;
      if (result.ok()) {
        EXPECT_EQ(*result, item[1].get<std::string>());
      } else {
        ADD_FAILURE() << result.status() << " not " << item[1];
      }
      continue;
    }
    ++refused;
    if (result.ok()) {
      ADD_FAILURE() << *result << " but " << item[3];
      continue;
    }
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(ReasonOf(result.status()), "CHAT_TEMPLATE_RENDER");
    if (item[2] == "raised") {
      EXPECT_EQ(result.status().message(), item[3].get<std::string>());
    }
  }
  EXPECT_GT(rendered, 1000);
  EXPECT_GT(refused, 100);
}

}  // namespace
}  // namespace descant::jinja
