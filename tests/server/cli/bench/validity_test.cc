#include "server/cli/bench/validity.h"

#include <gtest/gtest.h>

namespace descant::cli {
namespace {

TEST(ValidityTest, AnswersMustBeWholeAndOfTheRightVersion) {
  std::vector<v1::GenerateRequest> requests(2);
  requests[1].set_adapter_id("a");
  const AdapterDigests digests = {{"a", "sha256:1"}};
  std::vector<StreamedAnswer> answers(2);
  for (StreamedAnswer& answer : answers) answer.tokens.resize(kOutputTokens);
  answers[1].adapter_digest = "sha256:1";
  EXPECT_EQ(CheckAnswers(requests, answers, digests), "");

  answers[1].adapter_digest = "sha256:2";
  EXPECT_NE(CheckAnswers(requests, answers, digests), "");
  answers[1].adapter_digest = "sha256:1";
  answers[0].adapter_digest = "sha256:1";
  EXPECT_NE(CheckAnswers(requests, answers, digests), "");
  answers[0].adapter_digest.clear();
  answers[0].tokens.pop_back();
  EXPECT_NE(CheckAnswers(requests, answers, digests), "");
}

}  // namespace
}  // namespace descant::cli
