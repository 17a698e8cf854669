// A tenants file for servers under test.
#ifndef DESCANT_TESTS_E2E_TENANTS_FILE_H_
#define DESCANT_TESTS_E2E_TENANTS_FILE_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace descant::e2e {

// The API key of that tenant in files of WriteTenantsFile.
std::string KeyOfTenant(absl::string_view id);

// `folder`/tenants.yaml, for --tenants: tenants of these ids with the roles of
// a tenant and no limits. Returns its path.
std::string WriteTenantsFile(const std::string& folder,
                             const std::vector<std::string>& ids);

}  // namespace descant::e2e

#endif  // DESCANT_TESTS_E2E_TENANTS_FILE_H_
