#include "server/upload_table.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/reason.h"
#include "tests/testing/fake_clock.h"

namespace descant {
namespace {

using std::chrono::minutes;

class CountingHolder final : public UploadHolder {
 public:
  void GiveWay() override { ++asked; }
  int asked = 0;
};

// The table alone: what it keeps of an upload is opaque to it, so these have
// none; the streams' tests have.
class UploadTableTest : public ::testing::Test {
 protected:
  std::shared_ptr<UploadTable> Make(const UploadTableOptions& options) {
    return std::make_shared<UploadTable>(
        options, &clock_, &pool_,
        [this](absl::StatusCode code, Duration) { given_up_.push_back(code); });
  }

  static v1::UploadAdapterHeader Header(const std::string& id,
                                        uint64_t offset = 0) {
    v1::UploadAdapterHeader header;
    header.set_name("a");
    header.set_size_bytes(100);
    header.set_upload_id(id);
    header.set_offset(offset);
    return header;
  }

  std::string Reason(const std::string& tenant,
                     const v1::UploadAdapterHeader& header) {
    const auto claimed = table_->Claim(tenant, header, holder_);
    return claimed.ok() ? "OK" : ReasonOf(claimed.status());
  }
  std::string Reason(const std::string& tenant, const std::string& id,
                     uint64_t offset = 0) {
    return Reason(tenant, Header(id, offset));
  }
  bool Knows(const std::string& tenant, const std::string& id) {
    return table_->Query(tenant, id).ok();
  }
  // Sweeps, and waits for the pool.
  void Sweep() {
    table_->Sweep(clock_.Now());
    bool done = false;
    Mutex mutex;
    CondVar wake;
    ASSERT_TRUE(pool_.TryPost([&] {
      MutexLock lock(&mutex);
      done = true;
      wake.SignalAll();
    }));
    MutexLock lock(&mutex);
    while (!done) wake.Wait(&mutex);
  }

  FakeClock clock_;
  FrontPool pool_{1, 8};
  std::vector<absl::StatusCode> given_up_;
  std::shared_ptr<CountingHolder> holder_ = std::make_shared<CountingHolder>();
  std::shared_ptr<UploadTable> table_ = Make({.max_uploads = 4,
                                              .max_uploads_per_tenant = 2,
                                              .max_results = 3,
                                              .max_results_per_tenant = 2,
                                              .idle_timeout = minutes(10)});
};

TEST_F(UploadTableTest, BeginsParksAndGoesOn) {
  const auto begun = table_->Claim("t", Header("id"), holder_);
  ASSERT_TRUE(begun.ok());
  EXPECT_EQ(begun->committed, 0u);
  EXPECT_FALSE(begun->result.has_value());
  const MonotonicTime start = clock_.Now();
  clock_.Advance(minutes(3));
  table_->SetCommitted("t", "id", 10);
  EXPECT_EQ(table_->Query("t", "id")->committed_size(), 10u);
  table_->Park("t", "id", nullptr, 42);
  EXPECT_EQ(table_->Query("t", "id")->committed_size(), 42u);
  EXPECT_EQ(Reason("t", "id", 41), "UPLOAD_OFFSET");
  EXPECT_EQ(Reason("t", "id", 0), "UPLOAD_OFFSET");
  const auto claimed = table_->Claim("t", Header("id", 42), holder_);
  ASSERT_TRUE(claimed.ok());
  EXPECT_EQ(claimed->committed, 42u);
  EXPECT_EQ(claimed->begun, start);
}

TEST_F(UploadTableTest, AHeldOneIsBusyAndItsHolderToldToEnd) {
  ASSERT_EQ(Reason("t", "id"), "OK");
  EXPECT_EQ(Reason("t", "id"), "UPLOAD_BUSY");
  EXPECT_EQ(Reason("t", "id", 77), "UPLOAD_BUSY");
  EXPECT_EQ(holder_->asked, 2);
  // Who isn't its owner tells nobody anything.
  v1::UploadAdapterHeader other = Header("id");
  other.set_name("b");
  EXPECT_EQ(Reason("t", other), "UPLOAD_MISMATCH");
  EXPECT_EQ(Reason("other", "id", 1), "UPLOAD_UNKNOWN");
  EXPECT_EQ(holder_->asked, 2);
}

TEST_F(UploadTableTest, TenantsDontShareIds) {
  ASSERT_EQ(Reason("t", "id"), "OK");
  EXPECT_EQ(Reason("other", "id"), "OK");
  const absl::Status foreign = table_->Query("third", "id").status();
  const absl::Status unknown = table_->Query("third", "none").status();
  EXPECT_EQ(foreign, unknown);
}

TEST_F(UploadTableTest, IsBounded) {
  EXPECT_EQ(Reason("a", "1"), "OK");
  EXPECT_EQ(Reason("a", "2"), "OK");
  EXPECT_EQ(Reason("a", "3"), "UPLOAD_LIMIT") << "of the tenant";
  EXPECT_EQ(Reason("b", "1"), "OK");
  table_->Park("b", "1", nullptr, 0);
  EXPECT_EQ(Reason("b", "2"), "OK");
  EXPECT_EQ(Reason("c", "1"), "UPLOAD_LIMIT") << "of all";
  table_->Forget("a", "1");
  EXPECT_EQ(Reason("c", "1"), "OK");
  table_->Complete("a", "2", {});
  EXPECT_EQ(Reason("a", "3"), "OK") << "a result is no open upload";
}

TEST_F(UploadTableTest, ParkedOnesAreGivenUp) {
  ASSERT_EQ(Reason("t", "held"), "OK");
  ASSERT_EQ(Reason("t", "parked"), "OK");
  table_->Park("t", "parked", nullptr, 5);
  clock_.Advance(minutes(9));
  Sweep();
  EXPECT_TRUE(Knows("t", "parked"));
  // A stream that comes and goes starts the time anew.
  ASSERT_EQ(Reason("t", "parked", 5), "OK");
  table_->Park("t", "parked", nullptr, 6);
  clock_.Advance(minutes(9));
  Sweep();
  EXPECT_TRUE(Knows("t", "parked"));
  clock_.Advance(minutes(1));
  Sweep();
  EXPECT_FALSE(Knows("t", "parked"));
  EXPECT_TRUE(Knows("t", "held")) << "its stream has a timer of its own";
  EXPECT_EQ(given_up_, std::vector{absl::StatusCode::kDeadlineExceeded});
  EXPECT_EQ(Reason("t", "parked", 6), "UPLOAD_UNKNOWN");
}

TEST_F(UploadTableTest, ResultsStayForAWhile) {
  v1::UploadAdapterResponse response;
  response.mutable_adapter()->set_digest("sha256:1");
  response.set_created(true);
  for (int i = 0; i < 3; ++i) {
    const std::string id = absl::StrCat("r", i);
    ASSERT_EQ(Reason("t", id), "OK");
    table_->Complete("t", id, response);
    clock_.Advance(minutes(1));
  }
  EXPECT_FALSE(Knows("t", "r0")) << "the oldest of three went";
  const auto query = table_->Query("t", "r2");
  ASSERT_TRUE(query.ok());
  EXPECT_TRUE(query->complete());
  EXPECT_EQ(query->committed_size(), 100u);
  EXPECT_EQ(query->adapter().digest(), "sha256:1");
  const auto again = table_->Claim("t", Header("r2", 100), holder_);
  ASSERT_TRUE(again.ok());
  ASSERT_TRUE(again->result.has_value());
  EXPECT_TRUE(again->result->created());
  EXPECT_EQ(Reason("t", "r2", 99), "UPLOAD_OFFSET");
  // Another tenant's do not push these out before all together are too many.
  for (const char* tenant : {"u", "v"}) {
    ASSERT_EQ(Reason(tenant, "r"), "OK");
    table_->Complete(tenant, "r", response);
  }
  EXPECT_FALSE(Knows("t", "r1"));
  EXPECT_TRUE(Knows("t", "r2"));
  clock_.Advance(minutes(10));
  Sweep();
  EXPECT_FALSE(Knows("t", "r2"));
  EXPECT_TRUE(given_up_.empty()) << "a finished upload is not given up";
}

TEST_F(UploadTableTest, ClosedItParksNothing) {
  ASSERT_EQ(Reason("t", "parked"), "OK");
  table_->Park("t", "parked", nullptr, 5);
  ASSERT_EQ(Reason("t", "held"), "OK");
  table_->Close();
  EXPECT_FALSE(Knows("t", "parked"));
  EXPECT_EQ(Reason("t", "new"), "DRAINING");
  table_->Park("t", "held", nullptr, 5);
  EXPECT_FALSE(Knows("t", "held"));
  EXPECT_EQ(given_up_, (std::vector{absl::StatusCode::kUnavailable,
                                    absl::StatusCode::kUnavailable}));
}

TEST_F(UploadTableTest, UnsetIsNotZero) {
  ASSERT_EQ(Reason("t", "id"), "OK");
  table_->Park("t", "id", nullptr, 5);
  v1::UploadAdapterHeader header = Header("id", 5);
  header.set_expected_version(0);
  EXPECT_EQ(Reason("t", header), "UPLOAD_MISMATCH");
  header.clear_expected_version();
  header.set_base_fingerprint("");
  EXPECT_EQ(Reason("t", header), "UPLOAD_MISMATCH");
  header.clear_base_fingerprint();
  EXPECT_EQ(Reason("t", header), "OK");
}

// Nothing that a client can make large is kept.
TEST_F(UploadTableTest, WhatIsComparedIsSmall) {
  v1::UploadAdapterHeader header = Header("id");
  header.set_config_json(std::string(64 << 10, ' '));
  header.GetReflection()->MutableUnknownFields(&header)->AddLengthDelimited(
      1000, std::string(1 << 20, 'x'));
  ASSERT_EQ(Reason("t", header), "OK");
  table_->Park("t", "id", nullptr, 5);
  header.set_offset(5);
  header.DiscardUnknownFields();
  ASSERT_EQ(Reason("t", header), "OK") << "unknown fields say nothing";
  table_->Park("t", "id", nullptr, 5);
  header.mutable_config_json()->back() = '\n';
  EXPECT_EQ(Reason("t", header), "UPLOAD_MISMATCH");
}

}  // namespace
}  // namespace descant
