#include "server/tenant_admission.h"

#include <memory>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/base/reason.h"
#include "tests/testing/fake_clock.h"

namespace descant {
namespace {

class TenantAdmissionTest : public ::testing::Test {
 protected:
  static std::shared_ptr<const Tenant> Make(const TenantLimits& limits,
                                            const char* id = "acme") {
    auto tenant = std::make_shared<Tenant>();
    tenant->id = id;
    tenant->limits = limits;
    return tenant;
  }

  // A request that is under way: its ticket is kept.
  std::string Ask(const std::shared_ptr<const Tenant>& tenant,
                  int32_t sequences = 1, int64_t prompt = 1) {
    auto ticket = admission_.Admit(tenant);
    if (!ticket.ok()) return Refusal(ticket.status());
    const absl::Status status = ticket->Reserve(sequences, prompt);
    if (!status.ok()) return Refusal(status);
    tickets_.push_back(*std::move(ticket));
    return "";
  }

  static std::string Refusal(const absl::Status& status) {
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    return ReasonOf(status);
  }

  FakeClock clock_;
  TenantAdmission admission_{&clock_};
  std::vector<TenantAdmission::Ticket> tickets_;
};

TEST_F(TenantAdmissionTest, WithoutLimitsNothingIsRefused) {
  const auto tenant = Make({});
  for (int i = 0; i < 10000; ++i) {
    ASSERT_EQ(Ask(tenant, 16, 1 << 20), "");
  }
}

TEST_F(TenantAdmissionTest, RequestsASecond) {
  const auto tenant = Make({.requests_per_second = 4});
  for (int i = 0; i < 4; ++i) EXPECT_EQ(Ask(tenant), "");
  EXPECT_EQ(Ask(tenant), "TENANT_REQUEST_LIMIT");
  // What is refused costs nothing.
  clock_.Advance(std::chrono::milliseconds(249));
  EXPECT_EQ(Ask(tenant), "TENANT_REQUEST_LIMIT");
  clock_.Advance(std::chrono::milliseconds(2));
  EXPECT_EQ(Ask(tenant), "");
  EXPECT_EQ(Ask(tenant), "TENANT_REQUEST_LIMIT");
  // No more than a second's worth is saved.
  clock_.Advance(std::chrono::hours(1));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(Ask(tenant), "");
  EXPECT_EQ(Ask(tenant), "TENANT_REQUEST_LIMIT");
}

TEST_F(TenantAdmissionTest, ASlowRateLetsOneThrough) {
  const auto tenant = Make({.requests_per_second = 0.5});
  EXPECT_EQ(Ask(tenant), "");
  clock_.Advance(std::chrono::milliseconds(1900));
  EXPECT_EQ(Ask(tenant), "TENANT_REQUEST_LIMIT");
  clock_.Advance(std::chrono::milliseconds(200));
  EXPECT_EQ(Ask(tenant), "");
}

TEST_F(TenantAdmissionTest, TokensASecondAreThoseOfPromptsAndAnswers) {
  const auto tenant = Make({.tokens_per_second = 100});
  EXPECT_EQ(Ask(tenant, 1, 60), "");
  // One that waits counts; the last one may go over.
  EXPECT_EQ(Ask(tenant, 1, 60), "");
  EXPECT_EQ(Ask(tenant, 1, 1), "TENANT_TOKEN_LIMIT");
  for (auto& ticket : tickets_) ticket.Started();
  EXPECT_EQ(Ask(tenant, 1, 1), "TENANT_TOKEN_LIMIT");
  // 20 over. The answers come to 30.
  tickets_[0].Charge(10);
  tickets_[1].Charge(20);
  tickets_.clear();
  clock_.Advance(std::chrono::milliseconds(490));
  EXPECT_EQ(Ask(tenant, 1, 1), "TENANT_TOKEN_LIMIT");
  clock_.Advance(std::chrono::milliseconds(20));
  EXPECT_EQ(Ask(tenant, 1, 1), "");
}

TEST_F(TenantAdmissionTest, WhatNeverStartedCostsNoTokens) {
  const auto tenant = Make({.tokens_per_second = 100});
  EXPECT_EQ(Ask(tenant, 1, 5000), "");
  EXPECT_EQ(Ask(tenant), "TENANT_TOKEN_LIMIT");
  tickets_.clear();
  EXPECT_EQ(Ask(tenant, 1, 99), "");
}

TEST_F(TenantAdmissionTest, AnswersAtOnce) {
  const auto tenant = Make({.sequences = 5});
  EXPECT_EQ(Ask(tenant, 3), "");
  EXPECT_EQ(Ask(tenant, 3), "TENANT_SEQUENCE_LIMIT");
  EXPECT_EQ(Ask(tenant, 2), "");
  EXPECT_EQ(Ask(tenant, 1), "TENANT_SEQUENCE_LIMIT");
  tickets_.erase(tickets_.begin());
  EXPECT_EQ(Ask(tenant, 3), "");
  EXPECT_EQ(Ask(tenant, 1), "TENANT_SEQUENCE_LIMIT");
}

TEST_F(TenantAdmissionTest, TokensOfPromptsThatWait) {
  const auto tenant = Make({.queued_tokens = 100});
  EXPECT_EQ(Ask(tenant, 1, 500), "") << "one prompt alone is always taken";
  EXPECT_EQ(Ask(tenant, 1, 1), "TENANT_QUEUE_LIMIT");
  tickets_[0].Started();
  tickets_[0].Started();
  EXPECT_EQ(Ask(tenant, 1, 60), "");
  EXPECT_EQ(Ask(tenant, 1, 41), "TENANT_QUEUE_LIMIT");
  EXPECT_EQ(Ask(tenant, 1, 40), "");
  tickets_.clear();
  EXPECT_EQ(Ask(tenant, 1, 100), "");
}

TEST_F(TenantAdmissionTest, OneTenantsUseIsNotAnothers) {
  EXPECT_EQ(Ask(Make({.sequences = 1}, "acme")), "");
  EXPECT_EQ(Ask(Make({.sequences = 1}, "globex")), "");
  EXPECT_EQ(Ask(Make({.sequences = 1}, "acme")), "TENANT_SEQUENCE_LIMIT");
}

// After the tenants file is read again.
TEST_F(TenantAdmissionTest, NewLimitsCountForNewRequests) {
  EXPECT_EQ(Ask(Make({.requests_per_second = 1})), "");
  EXPECT_EQ(Ask(Make({.requests_per_second = 1})), "TENANT_REQUEST_LIMIT");
  EXPECT_EQ(Ask(Make({})), "");
  clock_.Advance(std::chrono::seconds(1));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Ask(Make({.requests_per_second = 1000})), "") << i;
    clock_.Advance(std::chrono::milliseconds(1));
  }
  // What was taken while there was no limit is not held against the tenant.
  tickets_.clear();
  EXPECT_EQ(Ask(Make({}), 7, 7), "");
  EXPECT_EQ(Ask(Make({.sequences = 7}), 7, 7), "");
}

// Nor is what was used while a limit was lifted.
TEST_F(TenantAdmissionTest, TokensWithoutALimitAreFree) {
  EXPECT_EQ(Ask(Make({.tokens_per_second = 10}), 1, 5), "");
  tickets_.clear();
  EXPECT_EQ(Ask(Make({.sequences = 9}), 1, 5000), "");
  tickets_[0].Started();
  tickets_[0].Charge(5000);
  tickets_.clear();
  EXPECT_EQ(Ask(Make({.tokens_per_second = 10}), 1, 5), "");
}

TEST_F(TenantAdmissionTest, ATicketThatMovesCountsOnce) {
  const auto tenant = Make({.sequences = 1});
  EXPECT_EQ(Ask(tenant), "");
  TenantAdmission::Ticket moved = std::move(tickets_[0]);
  tickets_.clear();
  EXPECT_EQ(Ask(tenant), "TENANT_SEQUENCE_LIMIT");
  moved = {};
  EXPECT_EQ(Ask(tenant), "");
}

}  // namespace
}  // namespace descant
