// The registry; rows 15 to 18, 55, 80 and 81 as far as they are its own.
#include "adapters/registry.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "tests/adapters/adapter_fixture.h"
#include "tests/adapters/registry_entry.h"

namespace descant {
namespace {

// "d7" is version 7.
std::string Publish(AdapterRegistry* registry, const std::string& digest,
                    const PublishCondition& condition = {}) {
  const uint64_t version = std::stoull(digest.substr(1));
  const auto outcome =
      registry->Publish(MakeEntry("t", "a", digest, version), condition);
  if (!outcome.ok()) return Outcome(outcome.status());
  constexpr const char* kNames[] = {"created", "replaced", "unchanged"};
  return kNames[static_cast<int>(*outcome)];
}

TEST(RegistryTest, Rows15To18Conditions) {
  AdapterRegistry registry;
  EXPECT_EQ(Publish(&registry, "d1"), "created");
  EXPECT_EQ(Publish(&registry, "d1"), "unchanged");
  EXPECT_EQ(Publish(&registry, "d2"), "ALREADY_EXISTS ADAPTER_EXISTS");
  EXPECT_EQ(Publish(&registry, "d2", {.replace = true}), "replaced");
  EXPECT_EQ(Publish(&registry, "d3", {.replace = true, .expected_version = 1}),
            "ABORTED ADAPTER_VERSION_MISMATCH");
  EXPECT_EQ(Publish(&registry, "d3", {.expected_version = 2}), "replaced");
  EXPECT_EQ(Publish(&registry, "d4", {.expected_version = 0}),
            "ABORTED ADAPTER_VERSION_MISMATCH");
}

TEST(RegistryTest, ForeignEqualsAbsent) {
  AdapterRegistry registry;
  Publish(&registry, "d1");
  const auto foreign = registry.Lookup("other", {"a", ""});
  const auto absent = registry.Lookup("other", {"never", ""});
  EXPECT_EQ(foreign.status(), absent.status());
  EXPECT_EQ(Outcome(foreign.status()), "NOT_FOUND ADAPTER_NOT_FOUND");
  EXPECT_EQ(registry.Get("other", "a").status(),
            registry.Get("other", "never").status());
  EXPECT_EQ(registry.Remove("other", "a"), registry.Remove("other", "never"));
}

TEST(RegistryTest, LookupPinsTheDigest) {
  AdapterRegistry registry;
  Publish(&registry, "d1");
  EXPECT_EQ((*registry.Lookup("t", {"a", ""}))->digest, "d1");
  EXPECT_EQ((*registry.Lookup("t", {"a", "d1"}))->digest, "d1");
  EXPECT_EQ(Outcome(registry.Lookup("t", {"a", "d0"}).status()),
            "NOT_FOUND ADAPTER_NOT_FOUND");
}

TEST(RegistryTest, Row80DeleteTwiceAndInFlight) {
  AdapterRegistry registry;
  Publish(&registry, "d1");
  const auto held = registry.Lookup("t", {"a", ""});
  EXPECT_TRUE(registry.Remove("t", "a").ok());
  EXPECT_EQ(Outcome(registry.Remove("t", "a")), "NOT_FOUND ADAPTER_NOT_FOUND");
  EXPECT_EQ((*held)->digest, "d1");
}

TEST(RegistryTest, StatesOfRecoveredEntries) {
  AdapterRegistry registry;
  RegistryEntry corrupt = MakeEntry("t", "a", "d1");
  corrupt.state = AdapterState::kCorrupt;
  corrupt.adapter = nullptr;
  ASSERT_TRUE(registry.Publish(corrupt, {}).ok());
  EXPECT_EQ(Outcome(registry.Lookup("t", {"a", ""}).status()),
            "DATA_LOSS ADAPTER_DATA_LOSS");
  // The same bytes again are a repair.
  EXPECT_EQ(Publish(&registry, "d1"), "replaced");
  EXPECT_TRUE(registry.Lookup("t", {"a", ""}).ok());
  RegistryEntry foreign_base = MakeEntry("t", "b", "d2");
  foreign_base.state = AdapterState::kIncompatible;
  ASSERT_TRUE(registry.Publish(foreign_base, {}).ok());
  EXPECT_EQ(Outcome(registry.Lookup("t", {"b", ""}).status()),
            "FAILED_PRECONDITION ADAPTER_INCOMPATIBLE");
}

TEST(RegistryTest, QuarantineIsOfOneVersion) {
  AdapterRegistry registry;
  Publish(&registry, "d1");
  const auto held = *registry.Lookup("t", {"a", ""});
  // The same digest anew is another version: it may be a repair.
  Adapter other = *held;
  registry.Quarantine(other);
  EXPECT_TRUE(registry.Lookup("t", {"a", ""}).ok());
  registry.Quarantine(*held);
  EXPECT_EQ(Outcome(registry.Lookup("t", {"a", ""}).status()),
            "DATA_LOSS ADAPTER_DATA_LOSS");
  EXPECT_EQ(Publish(&registry, "d1"), "replaced");
  registry.Quarantine(*held);
  EXPECT_TRUE(registry.Lookup("t", {"a", ""}).ok());
}

TEST(RegistryTest, Row81Pages) {
  AdapterRegistry registry;
  for (int i = 0; i < 25; ++i) {
    ASSERT_TRUE(
        registry.Publish(MakeEntry("t", absl::StrCat("n", 10 + i), "d"), {})
            .ok());
  }
  ASSERT_TRUE(registry.Publish(MakeEntry("u", "n99", "d"), {}).ok());
  std::vector<std::string> names;
  std::string token;
  do {
    const auto page = registry.List("t", 10, token);
    ASSERT_TRUE(page.ok()) << page.status();
    EXPECT_LE(page->entries.size(), 10u);
    for (const auto& entry : page->entries) names.push_back(entry.info.name);
    token = page->next_page_token;
  } while (!token.empty());
  EXPECT_EQ(names.size(), 25u);
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  EXPECT_EQ(registry.List("t", 0, "")->entries.size(), 25u);
  EXPECT_EQ(registry.List("t", 25, "")->next_page_token, "");
  for (const int32_t size : {-1, INT32_MAX, kMaxPageSize + 1}) {
    EXPECT_EQ(Outcome(registry.List("t", size, "").status()),
              "INVALID_ARGUMENT PAGE_SIZE_INVALID");
  }
  for (const char* forged :
       {"x", "p1-", "p1-zz", "p1-2e2e", "p1-6E31", "n10"}) {
    EXPECT_EQ(Outcome(registry.List("t", 10, forged).status()),
              "INVALID_ARGUMENT PAGE_TOKEN_INVALID")
        << forged;
  }
}

TEST(RegistryTest, Usage) {
  AdapterRegistry registry;
  ASSERT_TRUE(registry.Publish(MakeEntry("t", "a", "d"), {}).ok());
  ASSERT_TRUE(registry.Publish(MakeEntry("t", "b", "d"), {}).ok());
  ASSERT_TRUE(registry.Publish(MakeEntry("u", "a", "d"), {}).ok());
  EXPECT_EQ(registry.UsageOf("t").adapters, 2);
  EXPECT_EQ(registry.UsageOf("t").file_bytes, 20u);
  EXPECT_EQ(registry.UsageOf("none").adapters, 0);
  EXPECT_EQ(registry.TotalUsage().adapters, 3);
}

TEST(RegistryTest, ReadersSeeWholeVersionsDuringReplacement) {
  AdapterRegistry registry;
  Publish(&registry, "d1");
  std::thread writer([&registry] {
    for (int i = 2; i < 2000; ++i) {
      Publish(&registry, absl::StrCat("d", i), {.replace = true});
    }
  });
  for (int i = 0; i < 2000; ++i) {
    const auto adapter = registry.Lookup("t", {"a", ""});
    ASSERT_TRUE(adapter.ok());
    ASSERT_EQ((*adapter)->digest[0], 'd');
  }
  writer.join();
  EXPECT_EQ((*registry.Lookup("t", {"a", ""}))->digest, "d1999");
}

}  // namespace
}  // namespace descant
