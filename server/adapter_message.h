// A registry entry as a message.
#ifndef DESCANT_SERVER_ADAPTER_MESSAGE_H_
#define DESCANT_SERVER_ADAPTER_MESSAGE_H_

#include <string>
#include <vector>

#include "absl/types/span.h"
#include "adapters/base_shape.h"
#include "adapters/registry.h"
#include "descant/v1/adapter.pb.h"
#include "server/edge_context.h"

namespace descant {

// As the server knows it now, without the tenant and the sharing.
void DescribeAdapter(const EdgeContext& edge, const RegistryEntry& entry,
                     v1::Adapter* message);
// For its owner: with its sharing.
void DescribeOwnAdapter(const EdgeContext& edge, const RegistryEntry& entry,
                        v1::Adapter* message);
// For those it is shared with: named owner/name, and what its use needs. Not
// its sharing, labels and the base model's name, which are the owner's texts;
// not where its tensors are, which others' use decides.
void DescribeSharedAdapter(const EdgeContext& edge, const RegistryEntry& entry,
                           v1::Adapter* message);

void FillSharing(const AdapterSharing& sharing, v1::Sharing* message);

v1::AdapterLevel LevelMessage(AdapterLevel level);

// The last parts of the modules' paths ("q_proj"), as many as tell them apart
// (GPT-2's "attn.c_proj" and "mlp.c_proj"), each once, in order of LinearKind.
std::vector<std::string> TargetModules(absl::Span<const BaseModule> base);

}  // namespace descant

#endif  // DESCANT_SERVER_ADAPTER_MESSAGE_H_
