// The calls of the foreign-object matrix: one for each RPC that names an
// object.
#ifndef DESCANT_TESTS_SERVER_FOREIGN_OBJECT_CALLS_H_
#define DESCANT_TESTS_SERVER_FOREIGN_OBJECT_CALLS_H_

#include <functional>
#include <string>
#include <vector>

#include "grpcpp/support/status.h"
#include "tests/server/test_server.h"

namespace descant {

// A call's outcome, and everything that its caller could see of it.
struct Answer {
  grpc::StatusCode code = grpc::StatusCode::OK;
  // Status with details, metadata, and where messages came before the status
  // that depend on what there is, those.
  std::string bytes;
};

// What an RPC's request names.
enum class Names {
  kNothing,  // no object
  kUsed,     // an adapter, to use or to see
  kOwn,      // an adapter, to change or to download
  kNew,      // a name to be given, of the caller's own
  kUpload,   // an upload
};

struct MatrixRow {
  const char* rpc;
  Names names;
  // Calls about that object, with the server's key. Null for kNothing.
  std::function<Answer(TestServer*, const std::string& id)> call;
};

// In this order: what removes its own object is last.
std::vector<MatrixRow> MatrixRows();

}  // namespace descant

#endif  // DESCANT_TESTS_SERVER_FOREIGN_OBJECT_CALLS_H_
