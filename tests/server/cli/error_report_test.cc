#include "server/cli/error_report.h"

#include <gtest/gtest.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace descant::cli {
namespace {

grpc::Status WithDetails(grpc::StatusCode code, const std::string& message,
                         const google::rpc::Status& details) {
  return grpc::Status(code, message, details.SerializeAsString());
}

TEST(ErrorReportTest, CodeReasonMessageAndFields) {
  google::rpc::Status details;
  google::rpc::ErrorInfo info;
  info.set_reason("FIELD_INVALID");
  details.add_details()->PackFrom(info);
  google::rpc::BadRequest bad_request;
  auto* violation = bad_request.add_field_violations();
  violation->set_field("sampling.top_p");
  violation->set_description("must be in (0, 1]");
  details.add_details()->PackFrom(bad_request);
  EXPECT_EQ(DescribeError(WithDetails(grpc::StatusCode::INVALID_ARGUMENT,
                                      "bad request", details)),
            "INVALID_ARGUMENT (FIELD_INVALID): bad request; sampling.top_p: "
            "must be in (0, 1]");
  // A violation that the message holds already is not said twice.
  EXPECT_EQ(
      DescribeError(WithDetails(grpc::StatusCode::INVALID_ARGUMENT,
                                "sampling.top_p: must be in (0, 1]", details)),
      "INVALID_ARGUMENT (FIELD_INVALID): sampling.top_p: must be in "
      "(0, 1]");
}

TEST(ErrorReportTest, NamesAFieldOnce) {
  google::rpc::Status details;
  google::rpc::BadRequest bad_request;
  auto* violation = bad_request.add_field_violations();
  violation->set_field("seed");
  violation->set_description("seed: too large");
  details.add_details()->PackFrom(bad_request);
  EXPECT_EQ(DescribeError(WithDetails(grpc::StatusCode::INVALID_ARGUMENT,
                                      "refused", details)),
            "INVALID_ARGUMENT: refused; seed: too large");
}

TEST(ErrorReportTest, WhenToComeBack) {
  google::rpc::Status details;
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(1);
  retry.mutable_retry_delay()->set_nanos(500'000'000);
  details.add_details()->PackFrom(retry);
  EXPECT_EQ(DescribeError(
                WithDetails(grpc::StatusCode::UNAVAILABLE, "full", details)),
            "UNAVAILABLE: full; retry in 1.5 s");
}

TEST(ErrorReportTest, ForeignDetailsAndControlCharacters) {
  EXPECT_EQ(DescribeError(grpc::Status(grpc::StatusCode::INTERNAL,
                                       "two\nlines\x1b", "no protobuf\xff")),
            "INTERNAL: two lines ");
  EXPECT_EQ(DescribeError(grpc::Status(grpc::StatusCode::NOT_FOUND, "")),
            "NOT_FOUND");
}

TEST(ErrorReportTest, ExitCodes) {
  EXPECT_EQ(ExitCodeOf(grpc::StatusCode::OK), kExitOk);
  EXPECT_EQ(ExitCodeOf(grpc::StatusCode::NOT_FOUND), kExitNotFound);
  EXPECT_EQ(ExitCodeOf(grpc::StatusCode::INVALID_ARGUMENT), kExitRefused);
  EXPECT_EQ(ExitCodeOf(grpc::StatusCode::ALREADY_EXISTS), kExitRefused);
  EXPECT_EQ(ExitCodeOf(grpc::StatusCode::RESOURCE_EXHAUSTED), kExitRetry);
  EXPECT_EQ(ExitCodeOf(grpc::StatusCode::UNAUTHENTICATED), kExitPermission);
  EXPECT_EQ(ExitCodeOf(grpc::StatusCode::DATA_LOSS), kExitInternal);
}

}  // namespace
}  // namespace descant::cli
