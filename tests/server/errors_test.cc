#include "server/errors.h"

#include <optional>
#include <string>

#include "adapters/error_reason.h"
#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "runtime/base/reason.h"

namespace descant {
namespace {

google::rpc::Status Rich(const grpc::Status& status) {
  google::rpc::Status rich;
  EXPECT_TRUE(rich.ParseFromString(status.error_details()));
  EXPECT_EQ(rich.code(), static_cast<int>(status.error_code()));
  EXPECT_EQ(rich.message(), status.error_message());
  return rich;
}

template <typename Detail>
std::optional<Detail> Find(const grpc::Status& status) {
  const google::rpc::Status rich = Rich(status);
  for (const auto& any : rich.details()) {
    Detail detail;
    if (any.UnpackTo(&detail)) return detail;
  }
  return std::nullopt;
}

std::string ReasonIn(const grpc::Status& status) {
  const auto info = Find<google::rpc::ErrorInfo>(status);
  return info.has_value() ? info->reason() : "";
}

TEST(ErrorsTest, OkStaysOk) {
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
}

TEST(ErrorsTest, CodesKeepTheirNumbers) {
  for (int code = 1; code <= 16; ++code) {
    const grpc::Status status =
        ToGrpcStatus(absl::Status(static_cast<absl::StatusCode>(code), "x"));
    EXPECT_EQ(static_cast<int>(status.error_code()), code);
    EXPECT_NE(ReasonIn(status), "") << code;
    EXPECT_EQ(Find<google::rpc::ErrorInfo>(status)->domain(), "descant");
  }
}

TEST(ErrorsTest, FieldErrorsNameTheirField) {
  const grpc::Status status =
      ToGrpcStatus(FieldError("sampling.top_p", "must be from 0 to 1"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(ReasonIn(status), "FIELD_INVALID");
  const auto bad = Find<google::rpc::BadRequest>(status);
  ASSERT_TRUE(bad.has_value());
  ASSERT_EQ(bad->field_violations_size(), 1);
  EXPECT_EQ(bad->field_violations(0).field(), "sampling.top_p");
  EXPECT_THAT(bad->field_violations(0).description(),
              ::testing::HasSubstr("must be from 0 to 1"));
  EXPECT_EQ(Find<google::rpc::ErrorInfo>(status)->metadata().at("field"),
            "sampling.top_p");
}

TEST(ErrorsTest, UnavailableSaysWhenToComeBack) {
  const grpc::Status status = ToGrpcStatus(ReasonedError(
      absl::StatusCode::kUnavailable, reason::kQueueFull, "full"));
  const auto retry = Find<google::rpc::RetryInfo>(status);
  ASSERT_TRUE(retry.has_value());
  EXPECT_GT(retry->retry_delay().seconds() * 1000000000 +
                retry->retry_delay().nanos(),
            0);
}

TEST(ErrorsTest, QuotasSayWhich) {
  const grpc::Status status =
      ToGrpcStatus(ReasonedError(absl::StatusCode::kResourceExhausted,
                                 reason::kAdapterQuota, "at most 3"));
  const auto quota = Find<google::rpc::QuotaFailure>(status);
  ASSERT_TRUE(quota.has_value());
  EXPECT_EQ(quota->violations(0).description(), "at most 3");
  EXPECT_TRUE(Find<google::rpc::RetryInfo>(status).has_value());
}

TEST(ErrorsTest, SizeLimitsAreNoReasonToComeBack) {
  const grpc::Status status =
      ToGrpcStatus(ReasonedError(absl::StatusCode::kResourceExhausted,
                                 reason::kUploadTooLarge, "too large"));
  EXPECT_FALSE(Find<google::rpc::RetryInfo>(status).has_value());
}

TEST(ErrorsTest, MissingAdaptersAreNamed) {
  CallFacts facts;
  facts.adapter_id = "alpha";
  const grpc::Status status =
      ToGrpcStatus(ReasonedError(absl::StatusCode::kNotFound,
                                 reason::kAdapterNotFound, "no such adapter"),
                   facts);
  const auto resource = Find<google::rpc::ResourceInfo>(status);
  ASSERT_TRUE(resource.has_value());
  EXPECT_EQ(resource->resource_type(), "descant.v1.Adapter");
  EXPECT_EQ(resource->resource_name(), "alpha");
}

TEST(ErrorsTest, OurOwnFaultsTellNothingButTheRequest) {
  CallFacts facts;
  facts.request_id = 42;
  const grpc::Status status =
      ToGrpcStatus(absl::InternalError("/secret/path at 0x7fff1234"), facts);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(status.error_message().find("secret"), std::string::npos);
  EXPECT_EQ(status.error_details().find("secret"), std::string::npos);
  EXPECT_EQ(Find<google::rpc::RequestInfo>(status)->request_id(), "42");
}

TEST(ErrorsTest, DetailsStaySmall) {
  CallFacts facts;
  facts.adapter_id = std::string(256, 'a');
  const grpc::Status status = ToGrpcStatus(
      ReasonedError(absl::StatusCode::kNotFound, reason::kAdapterNotFound,
                    "no such adapter", "adapter_id"),
      facts);
  EXPECT_LT(status.error_details().size(), 1024u);
}

}  // namespace
}  // namespace descant
