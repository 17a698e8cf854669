// A registry entry as a message.
#ifndef DESCANT_SERVER_ADAPTER_MESSAGE_H_
#define DESCANT_SERVER_ADAPTER_MESSAGE_H_

#include <string>
#include <vector>

#include "adapters/base_shape.h"
#include "adapters/registry.h"
#include "descant/v1/adapter.pb.h"

namespace descant {

// Never the tenant: a caller sees only its own.
void FillAdapter(const RegistryEntry& entry, v1::Adapter* message);

// The last parts of the modules' paths ("q_proj"), each once, in order of
// LinearKind.
std::vector<std::string> TargetModules(const BaseShape& base);

}  // namespace descant

#endif  // DESCANT_SERVER_ADAPTER_MESSAGE_H_
