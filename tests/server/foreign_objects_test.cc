// The foreign-object matrix: every RPC of the tenants' services that names an
// object, asked by every role, for objects that are foreign, foreign and
// shared, absent, deleted, or of no tenant at all. What a caller may not have
// is answered as what was never there, byte for byte: status, message, details,
// metadata, and what came before the status.
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "google/protobuf/descriptor.h"
#include "gtest/gtest.h"
#include "server/tenants.h"
#include "tests/server/foreign_object_calls.h"
#include "tests/server/test_server.h"
#include "tests/server/upload_stream.h"

namespace descant {
namespace {

using grpc::StatusCode;

constexpr char kOwner[] = "acme";
constexpr char kForeignUpload[] = "foreign-upload-id";
constexpr char kUnknownUpload[] = "unknown-upload-id";

// Whether a request has a field that names an object, itself or in a message
// of its own.
bool NamesAnObject(const google::protobuf::Descriptor* message, int depth = 1) {
  for (int i = 0; i < message->field_count(); ++i) {
    const auto* field = message->field(i);
    for (const char* name : {"adapter_id", "name", "upload_id"}) {
      if (field->name() == name) return true;
    }
    if (depth > 0 && field->message_type() != nullptr &&
        NamesAnObject(field->message_type(), depth - 1)) {
      return true;
    }
  }
  return false;
}

TEST(ForeignObjectsTest, EveryRpcHasItsRow) {
  std::map<std::string, std::set<Names>> rows;
  for (const MatrixRow& row : MatrixRows()) rows[row.rpc].insert(row.names);
  size_t methods = 0;
  for (const auto* file : {v1::GenerateRequest::descriptor()->file(),
                           v1::GetAdapterRequest::descriptor()->file()}) {
    for (int s = 0; s < file->service_count(); ++s) {
      for (int m = 0; m < file->service(s)->method_count(); ++m) {
        const auto* method = file->service(s)->method(m);
        ++methods;
        ASSERT_TRUE(rows.contains(method->name()))
            << method->name() << " is not in the matrix";
        EXPECT_EQ(rows[method->name()].count(Names::kNothing) == 0,
                  NamesAnObject(method->input_type()))
            << method->name();
      }
    }
  }
  EXPECT_EQ(rows.size(), methods);
}

// Names, and owners, of one length: so the rest of an answer is the same.
std::string Nameless(const std::string& bytes) {
  return absl::StrReplaceAll(bytes, {{"secret", "??????"},
                                     {"opened", "??????"},
                                     {"others", "??????"},
                                     {"gone-1", "??????"},
                                     {"absent", "??????"},
                                     {"acme/", "?\?\?\?/"},
                                     {"nobo/", "?\?\?\?/"},
                                     {"foreign-", "????????"},
                                     {"unknown-", "????????"}});
}

struct Caller {
  const char* key;  // of the tenant of that id; "": none
  const char* roles;
  bool generates;
  bool manages;
};

constexpr Caller kCallers[] = {
    {"", "", false, false},
    {"gene", "generate", true, false},
    {"mana", "manage-adapters", false, true},
    {"both", "generate, manage-adapters", true, true},
    {"oper", "operator", false, false},
    {"ever", "generate, manage-adapters, operator", true, true},
};

bool MayCall(const Caller& caller, const MatrixRow& row) {
  if (absl::StrContains(row.rpc, "Generate")) return caller.generates;
  if (row.names == Names::kUsed || row.rpc == std::string("WatchAdapters")) {
    return caller.generates || caller.manages;
  }
  return caller.manages;
}

class MatrixTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "matrix-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
  }
  void TearDown() override {
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  // With all roles, or with those of the table.
  std::shared_ptr<const TenantDirectory> Directory(bool all_roles) {
    const std::string path = folder_ + "/tenants.yaml";
    std::ofstream file(path, std::ios::trunc);
    file << "tenants:\n";
    const auto add = [&file](const std::string& id, const std::string& roles) {
      file << "- {id: " << id << ", roles: [" << roles
           << "], keys: [{id: k, sha256: " << HexOf(Sha256Of(id)) << "}]}\n";
    };
    const std::string all = "generate, manage-adapters";
    add(kOwner, all);
    add("third", all);
    for (const Caller& caller : kCallers) {
      if (*caller.key != '\0') add(caller.key, all_roles ? all : caller.roles);
    }
    file.close();
    std::filesystem::permissions(path, std::filesystem::perms::owner_read |
                                           std::filesystem::perms::owner_write);
    auto directory = TenantDirectory::Load(path);
    EXPECT_TRUE(directory.ok()) << directory.status();
    return *directory;
  }

  void Start() {
    TestServerOptions options;
    options.tenants = Directory(/*all_roles=*/true);
    options.tenants_file = folder_ + "/tenants.yaml";
    server_ = std::make_unique<TestServer>(options);
    // Own objects come first, with roles that are taken away then.
    for (const Caller& caller : kCallers) {
      if (*caller.key == '\0') continue;
      Upload(caller.key, "mine", 11);
      Upload(caller.key, "mine", 12);
    }
    Directory(/*all_roles=*/false);
    server_->app().Reload();
  }

  // Replacing; its digest.
  std::string Upload(const std::string& tenant, const std::string& name,
                     uint64_t seed, bool validate_only = false) {
    server_->UseKey(tenant);
    UploadPlan plan = server_->PlanUpload(name, seed);
    plan.header()->set_replace(true);
    plan.header()->set_validate_only(validate_only);
    v1::UploadAdapterResponse response;
    const grpc::Status status = server_->Send(plan, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.adapter().digest();
  }

  void Share(const std::string& name, const std::vector<std::string>& with) {
    server_->UseKey(kOwner);
    grpc::ClientContext context;
    server_->AddKey(&context);
    v1::ShareAdapterRequest request;
    request.set_adapter_id(name);
    for (const std::string& id : with) {
      request.mutable_sharing()->add_tenants(id);
    }
    v1::ShareAdapterResponse response;
    EXPECT_TRUE(
        server_->adapters().ShareAdapter(&context, request, &response).ok());
  }

  // What acme has while the matrix is asked.
  void MakeForeignObjects() {
    std::vector<std::string> callers;
    for (const Caller& caller : kCallers) {
      if (*caller.key != '\0') callers.emplace_back(caller.key);
    }
    for (const char* name : {"secret", "opened", "others", "gone-1"}) {
      Upload(kOwner, name, 2);
      Upload(kOwner, name, 1);
    }
    Share("opened", callers);
    Share("others", {"third"});
    Share("gone-1", callers);
    EXPECT_TRUE(DeleteAdapter(server_.get(), "gone-1").ok());
    UploadPlan plan = server_->PlanUpload("parked", 3);
    plan.header()->set_upload_id(kForeignUpload);
    UploadStream parked(server_.get(), *plan.header());
    ASSERT_TRUE(parked.Send(plan.Bytes().substr(0, 100)));
    EXPECT_EQ(ReasonIn(parked.Close()), "UPLOAD_TRUNCATED");
  }

  Answer Ask(const Caller& caller, const MatrixRow& row,
             const std::string& id) {
    server_->UseKey(caller.key);
    ++calls_;
    // Streams that have ended may be counted a little longer.
    Answer answer;
    for (int i = 0; i < 2000; ++i) {
      answer = row.call(server_.get(), id);
      if (answer.code != StatusCode::RESOURCE_EXHAUSTED) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return answer;
  }

  // Every cell of these ids.
  using Cells = std::map<std::string, Answer>;
  static std::string CellOf(const Caller& caller, const MatrixRow& row,
                            const std::string& id) {
    return absl::StrCat(row.rpc, " ", static_cast<int>(row.names), " by ",
                        *caller.key == '\0' ? "nobody" : caller.key, ": ", id);
  }
  Cells AskAll(const std::vector<std::string>& adapters,
               const std::vector<std::string>& uploads) {
    Cells cells;
    for (const Caller& caller : kCallers) {
      for (const MatrixRow& row : MatrixRows()) {
        if (row.names == Names::kNothing) continue;
        const auto& ids = row.names == Names::kUpload ? uploads : adapters;
        for (const std::string& id : ids) {
          cells[CellOf(caller, row, id)] = Ask(caller, row, id);
        }
      }
    }
    return cells;
  }

  // All of acme's, as text.
  std::string OwnersView() {
    server_->UseKey(kOwner);
    std::string text;
    for (const char* name : {"secret", "opened", "others"}) {
      v1::GetAdapterResponse response;
      EXPECT_TRUE(GetAdapter(server_.get(), name, &response).ok()) << name;
      v1::Adapter* adapter = response.mutable_adapter();
      adapter->clear_level();  // which use may change
      absl::StrAppend(&text, adapter->ShortDebugString(), "\n");
    }
    return text;
  }

  void ExpectRefusal(const Caller& caller, const MatrixRow& row,
                     const std::string& id, const Answer& answer) {
    const std::string cell = CellOf(caller, row, id);
    EXPECT_EQ(answer.code, *caller.key == '\0' ? StatusCode::UNAUTHENTICATED
                                               : StatusCode::PERMISSION_DENIED)
        << cell;
    // The same whatever was asked for.
    const auto [first, is_new] =
        refusals_.try_emplace(absl::StrCat(row.rpc, caller.key), answer.bytes);
    EXPECT_EQ(first->second, answer.bytes) << cell;
    ++denied_;
  }

  // Asks again, now that there is something that is not the caller's.
  void CheckCell(const Caller& caller, const MatrixRow& row,
                 const std::string& id) {
    const std::string cell = CellOf(caller, row, id);
    const Answer answer = Ask(caller, row, id);
    const Answer& absent = absent_.at(cell);
    if (!MayCall(caller, row)) {
      ExpectRefusal(caller, row, id, answer);
      EXPECT_EQ(answer.bytes, absent.bytes) << cell;
      return;
    }
    if (row.names == Names::kUsed && usable_.contains(id)) {
      EXPECT_EQ(answer.code, StatusCode::OK) << cell;
      EXPECT_EQ(absent.code, StatusCode::NOT_FOUND) << cell;
      ++allowed_;
      return;
    }
    EXPECT_EQ(answer.bytes, absent.bytes) << cell;
    ++equal_;
    // A name to be given is one's own: no object of others' can show.
    if (row.names == Names::kNew) return;
    // One's own name is shared in all its versions, whether it exists or not.
    const bool pinned = absl::StrContains(id, '@') &&
                        !absl::StrContains(id, '/') &&
                        absl::string_view(row.rpc) == "ShareAdapter";
    EXPECT_EQ(answer.code,
              pinned ? StatusCode::INVALID_ARGUMENT : StatusCode::NOT_FOUND)
        << cell;
    // The same as for another name that never was.
    const std::string never =
        row.names == Names::kUpload
            ? kUnknownUpload
            : absl::StrReplaceAll(id, {{"secret", "absent"},
                                       {"opened", "absent"},
                                       {"others", "absent"},
                                       {"gone-1", "absent"},
                                       {"nobo/", "acme/"}});
    EXPECT_EQ(Nameless(answer.bytes),
              Nameless(absent_.at(CellOf(caller, row, never)).bytes))
        << cell;
  }

  std::string folder_;
  std::unique_ptr<TestServer> server_;
  Cells absent_;                  // answers from before there was anything
  std::set<std::string> usable_;  // ids of what is shared with all callers
  std::map<std::string, std::string> refusals_;
  int calls_ = 0;
  int denied_ = 0;
  int equal_ = 0;
  int allowed_ = 0;
};

TEST_F(MatrixTest, ForeignIsAbsentByteForByte) {
  Start();
  const std::string digest =
      Upload(kOwner, "secret", 1, /*validate_only=*/true);
  const std::string no_digest = absl::StrCat("sha256:", std::string(64, 'a'));
  std::vector<std::string> adapters;
  for (const char* name : {"secret", "opened", "others", "gone-1", "absent"}) {
    for (const char* owner : {"", "acme/"}) {
      const std::string id = absl::StrCat(owner, name);
      adapters.push_back(id);
      adapters.push_back(absl::StrCat(id, "@", digest));
      adapters.push_back(absl::StrCat(id, "@", no_digest));
    }
    for (const char* owner : {"nobo/", "both/"}) {
      adapters.push_back(absl::StrCat(owner, name));
    }
  }
  const std::vector<std::string> uploads = {kForeignUpload, kUnknownUpload};
  // Before there is any of it: what "absent" is.
  absent_ = AskAll(adapters, uploads);
  MakeForeignObjects();
  const std::string owners_view = OwnersView();
  usable_ = {"acme/opened", absl::StrCat("acme/opened@", digest)};
  for (const Caller& caller : kCallers) {
    for (const MatrixRow& row : MatrixRows()) {
      if (row.names == Names::kNothing) continue;
      for (const std::string& id :
           row.names == Names::kUpload ? uploads : adapters) {
        CheckCell(caller, row, id);
      }
    }
  }
  EXPECT_EQ(OwnersView(), owners_view) << "somebody changed what is acme's";
  std::printf(
      "%d calls: %d denied by role, %d foreign answers equal to absent ones, "
      "%d uses of what is shared\n",
      calls_, denied_, equal_, allowed_);
  EXPECT_GT(denied_, 500);
  EXPECT_GT(equal_, 500);
  EXPECT_GE(allowed_, 12);
}

// The denials above are not those of a server that denies everything.
TEST_F(MatrixTest, OwnObjectsAnswerWhoMayCall) {
  Start();
  for (const Caller& caller : kCallers) {
    for (const MatrixRow& row : MatrixRows()) {
      if (row.names == Names::kNothing || row.names == Names::kUpload) continue;
      const bool plain_only = row.names == Names::kNew;
      // Once under each of its names; a deletion once.
      const std::string qualified = absl::StrCat(caller.key, "/mine");
      const Answer answer = Ask(
          caller, row, plain_only || *caller.key == '\0' ? "mine" : qualified);
      if (!MayCall(caller, row)) {
        ExpectRefusal(caller, row, "mine", answer);
      } else if (row.rpc == std::string("WatchAdapters")) {
        EXPECT_EQ(answer.code, StatusCode::CANCELLED);  // by this test
        EXPECT_TRUE(absl::StrContains(answer.bytes, "mine"));
        ++allowed_;
      } else if (row.rpc == std::string("UploadAdapter")) {
        EXPECT_EQ(answer.code, StatusCode::ALREADY_EXISTS);
        ++allowed_;
      } else {
        EXPECT_EQ(answer.code, StatusCode::OK)
            << CellOf(caller, row, "mine") << answer.bytes;
        ++allowed_;
      }
    }
  }
  std::printf("%d denied by role, %d answered\n", denied_, allowed_);
  EXPECT_GT(allowed_, 20);
}

// Lists have no object to ask for; they show none that is foreign.
TEST_F(MatrixTest, ListsShowOwnAndShared) {
  Start();
  MakeForeignObjects();
  for (const Caller& caller : kCallers) {
    if (!caller.generates && !caller.manages) continue;
    server_->UseKey(caller.key);
    for (const bool shared : {false, true}) {
      grpc::ClientContext context;
      server_->AddKey(&context);
      v1::ListAdaptersRequest request;
      request.set_shared_with_me(shared);
      v1::ListAdaptersResponse response;
      ASSERT_TRUE(
          server_->adapters().ListAdapters(&context, request, &response).ok());
      ASSERT_EQ(response.adapters_size(), 1);
      EXPECT_EQ(response.total_size(), 1u);
      EXPECT_EQ(response.adapters(0).name(), shared ? "acme/opened" : "mine");
    }
  }
}

}  // namespace
}  // namespace descant
