#include "tests/e2e/tenants_file.h"

#include <openssl/sha.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace descant::e2e {
namespace {

std::string Sha256Hex(absl::string_view text) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(),
         digest);
  return absl::BytesToHexString(absl::string_view(
      reinterpret_cast<const char*>(digest), SHA256_DIGEST_LENGTH));
}

}  // namespace

std::string KeyOfTenant(absl::string_view id) {
  return absl::StrCat("dk_test_", id);
}

std::string WriteTenantsFile(const std::string& folder,
                             const std::vector<std::string>& ids) {
  const std::string path = folder + "/tenants.yaml";
  std::ofstream file(path, std::ios::trunc);
  file << "tenants:\n";
  for (const std::string& id : ids) {
    file << "- {id: " << id
         << ", keys: [{id: k, sha256: " << Sha256Hex(KeyOfTenant(id))
         << "}]}\n";
  }
  file.close();
  using std::filesystem::perms;
  std::filesystem::permissions(path, perms::owner_read | perms::owner_write);
  return path;
}

}  // namespace descant::e2e
