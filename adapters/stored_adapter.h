// One adapter out of a store's directory, beside whatever server uses it.
#ifndef DESCANT_ADAPTERS_STORED_ADAPTER_H_
#define DESCANT_ADAPTERS_STORED_ADAPTER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "adapters/adapter.h"
#include "adapters/base_shape.h"
#include "adapters/name.h"
#include "adapters/validate.h"
#include "runtime/base/fs.h"

namespace descant {

// The version that `id` names, with its tensors, read and checked against its
// digest; id.owner is the tenant ("" where tenants are off). Takes no lock and
// changes nothing: what a server does meanwhile is before or after. `base` is
// only read.
//
// NOT_FOUND: no store, no such name, or the name has no such version any more.
// FAILED_PRECONDITION ADAPTER_INCOMPATIBLE: made for another base model.
// DATA_LOSS: its bytes or the journal are damaged. UNAVAILABLE
// ADAPTER_UNREADABLE: they can't be read now, as when a server has just removed
// them.
absl::StatusOr<std::shared_ptr<const Adapter>> ReadStoredAdapter(
    Fs* fs, const std::string& directory, const AdapterId& id,
    const BaseShape& base, const AdapterLimits& limits);

}  // namespace descant

#endif  // DESCANT_ADAPTERS_STORED_ADAPTER_H_
