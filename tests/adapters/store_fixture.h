// What the store's tests share.
#ifndef DESCANT_TESTS_ADAPTERS_STORE_FIXTURE_H_
#define DESCANT_TESTS_ADAPTERS_STORE_FIXTURE_H_

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "adapters/store.h"
#include "runtime/base/failpoint.h"
#include "tests/adapters/adapter_fixture.h"
#include "tests/testing/fake_clock.h"

namespace descant {

// A store with its registry, on any Fs.
struct TestStore {
  AdapterRegistry registry;
  FakeClock clock;
  // Directory and model_name are Open's. Garbage has no grace by default.
  StoreOptions options{.garbage_grace = Duration::zero()};
  BaseShape base = TinyBase();  // but for the fingerprint, which is Open's
  std::unique_ptr<AdapterStore> store;

  absl::Status Open(Fs* fs, const std::string& directory,
                    const std::string& fingerprint = "sha256:tiny") {
    base.fingerprint = fingerprint;
    options.directory = directory;
    options.model_name = "tiny";
    auto opened = AdapterStore::Open(
        fs, &clock, options, std::make_shared<BaseShape>(base), &registry);
    if (!opened.ok()) return opened.status();
    store = *std::move(opened);
    return absl::OkStatus();
  }

  static UploadSpec SpecOf(const std::string& tenant, const std::string& name,
                           const AdapterFiles& files) {
    UploadSpec spec;
    spec.tenant = tenant;
    spec.name = name;
    spec.config_json = files.config_json;
    spec.declared_size = files.safetensors_bytes.size();
    return spec;
  }
  static UploadSpec Spec(const std::string& tenant, const std::string& name,
                         uint64_t seed) {
    return SpecOf(tenant, name, TinyAdapter(seed));
  }

  absl::StatusOr<PublishResult> Send(UploadSpec spec,
                                     const std::string& bytes) {
    auto upload = store->BeginUpload(std::move(spec));
    if (!upload.ok()) return upload.status();
    const absl::Status appended = (*upload)->Append(BytesOf(bytes));
    if (!appended.ok()) return appended;
    return (*upload)->Commit();
  }

  absl::StatusOr<PublishResult> Upload(const std::string& tenant,
                                       const std::string& name, uint64_t seed,
                                       bool replace = false) {
    UploadSpec spec = Spec(tenant, name, seed);
    spec.condition.replace = replace;
    return Send(std::move(spec), TinyAdapter(seed).safetensors_bytes);
  }

  // The versions of a name, newest first: "5 sha256:...", "-" for none.
  std::string History(const std::string& tenant,
                      const std::string& name) const {
    const auto versions = registry.Versions(tenant, name);
    if (!versions.ok()) return "-";
    std::string text;
    for (const RegistryEntry& entry : *versions) {
      absl::StrAppend(&text, text.empty() ? "" : ", ", entry.info.version, " ",
                      entry.info.digest.substr(7, 6));
      for (const auto& [key, value] : entry.info.labels) {
        absl::StrAppend(&text, " ", key, "=", value);
      }
    }
    return text;
  }

  // Who else may use a name: "a b", "*" for all, "" for nobody.
  std::string SharedWith(const std::string& tenant,
                         const std::string& name) const {
    const AdapterSharing sharing = registry.SharingOf(tenant, name);
    return sharing.all_tenants ? "*" : absl::StrJoin(sharing.tenants, " ");
  }

  // "tenant/name" to digest, of what can be served: the tensors are loaded.
  std::map<std::string, std::string> Served() const {
    std::map<std::string, std::string> served;
    for (const char* tenant : {"", "acme", "other"}) {
      const auto page = registry.List(tenant, kMaxPageSize, "");
      for (const RegistryEntry& entry : page->entries) {
        std::string& digest =
            served[std::string(tenant) + "/" + entry.info.name];
        digest = "damaged";
        if (entry.state != AdapterState::kReady) continue;
        const auto loaded = entry.adapter->source->Load(*entry.adapter);
        if (loaded.ok()) digest = (*loaded)->digest;
      }
    }
    return served;
  }
};

namespace stdfs = std::filesystem;

class StoreTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "descant_store_XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    parent_ = pattern;
    root_ = parent_ + "/store";
  }
  void TearDown() override {
    DisarmFailpoints();
    stdfs::remove_all(parent_);
  }

  std::vector<stdfs::path> Blobs() const {
    std::vector<stdfs::path> paths;
    for (const auto& entry :
         stdfs::recursive_directory_iterator(root_ + "/blobs")) {
      if (entry.is_regular_file()) paths.push_back(entry.path());
    }
    return paths;
  }
  size_t Staged() const {
    return static_cast<size_t>(
        std::distance(stdfs::directory_iterator(root_ + "/staging"), {}));
  }
  static std::string Slurp(const stdfs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  static void Spit(const stdfs::path& path, const std::string& content) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
  }

  PosixFs fs_;
  std::string parent_;
  std::string root_;
};

}  // namespace descant

#endif  // DESCANT_TESTS_ADAPTERS_STORE_FIXTURE_H_
