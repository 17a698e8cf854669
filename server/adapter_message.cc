#include "server/adapter_message.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace descant {
namespace {

// Bit k: LinearKind k.
using Kinds = uint32_t;

Kinds BitOf(size_t kind) { return 1u << kind; }

// `parts` path components from the end.
absl::string_view Tail(absl::string_view path, int parts) {
  size_t at = absl::string_view::npos;
  for (int i = 0; i < parts; ++i) {
    at = path.rfind('.', at == absl::string_view::npos ? at : at - 1);
    if (at == absl::string_view::npos || at == 0) return path;
  }
  return path.substr(at + 1);
}

// The names of the kinds, in their order; "" for those the base lacks.
std::array<std::string, kLinearKinds> KindNames(
    absl::Span<const BaseModule> base) {
  std::array<absl::string_view, kLinearKinds> paths;
  for (const BaseModule& module : base) {
    paths[static_cast<size_t>(module.kind)] = module.path;
  }
  std::array<std::string, kLinearKinds> names;
  for (size_t i = 0; i < paths.size(); ++i) {
    const auto same = [&](absl::string_view path) {
      return Tail(path, 1) == Tail(paths[i], 1);
    };
    const bool unique = std::count_if(paths.begin(), paths.end(), same) == 1;
    names[i] = std::string(Tail(paths[i], unique ? 1 : 2));
  }
  return names;
}

std::vector<std::string> Names(Kinds kinds, absl::Span<const BaseModule> base) {
  std::vector<std::string> names;
  const auto all = KindNames(base);
  for (size_t i = 0; i < all.size(); ++i) {
    if ((kinds & BitOf(i)) != 0) names.push_back(all[i]);
  }
  return names;
}

v1::AdapterState StateMessage(AdapterState state) {
  switch (state) {
    case AdapterState::kReady:
      return v1::ADAPTER_STATE_READY;
    case AdapterState::kIncompatible:
      return v1::ADAPTER_STATE_INCOMPATIBLE;
    case AdapterState::kCorrupt:
      return v1::ADAPTER_STATE_QUARANTINED;
  }
  return v1::ADAPTER_STATE_UNSPECIFIED;
}

const char* StateReason(AdapterState state) {
  switch (state) {
    case AdapterState::kReady:
      return "";
    case AdapterState::kIncompatible:
      return "stored under another base model";
    case AdapterState::kCorrupt:
      return "its stored bytes are damaged; upload it again";
  }
  return "";
}

void FillAdapter(const RegistryEntry& entry, absl::Span<const BaseModule> base,
                 v1::Adapter* message) {
  const AdapterInfo& info = entry.info;
  message->set_name(info.name);
  message->set_digest(info.digest);
  message->set_state(StateMessage(entry.state));
  message->set_state_reason(StateReason(entry.state));
  message->set_max_rank(info.max_rank);
  message->set_module_count(info.num_modules);
  message->set_size_bytes(info.file_bytes);
  message->set_base_model_name_or_path(info.base_model_name);
  const double seconds = std::floor(info.created_unix);
  message->mutable_create_time()->set_seconds(static_cast<int64_t>(seconds));
  message->mutable_create_time()->set_nanos(
      static_cast<int32_t>((info.created_unix - seconds) * 1e9));
  message->set_version(info.version);
  message->mutable_labels()->insert(info.labels.begin(), info.labels.end());
  if (entry.state != AdapterState::kReady) return;
  for (std::string& name : Names(info.module_kinds, base)) {
    message->add_target_modules(std::move(name));
  }
  message->set_parameter_count(info.parameters);
}

}  // namespace

v1::AdapterLevel LevelMessage(AdapterLevel level) {
  switch (level) {
    case AdapterLevel::kDisk:
      return v1::ADAPTER_LEVEL_DISK;
    case AdapterLevel::kHost:
      return v1::ADAPTER_LEVEL_HOST;
    case AdapterLevel::kDevice:
      return v1::ADAPTER_LEVEL_DEVICE;
  }
  return v1::ADAPTER_LEVEL_UNSPECIFIED;
}

void DescribeAdapter(const EdgeContext& edge, const RegistryEntry& entry,
                     v1::Adapter* message) {
  FillAdapter(entry, edge.facts.linear_modules, message);
  bool pinned = false;
  message->set_level(LevelMessage(
      edge.engine->LevelOf(entry.info.tenant, entry.info.digest, &pinned)));
  message->set_pinned(pinned);
}

void DescribeOwnAdapter(const EdgeContext& edge, const RegistryEntry& entry,
                        v1::Adapter* message) {
  DescribeAdapter(edge, entry, message);
  const AdapterSharing sharing =
      edge.registry->SharingOf(entry.info.tenant, entry.info.name);
  if (sharing.nobody()) return;
  FillSharing(sharing, message->mutable_sharing());
}

void DescribeSharedAdapter(const EdgeContext& edge, const RegistryEntry& entry,
                           v1::Adapter* message) {
  FillAdapter(entry, edge.facts.linear_modules, message);
  message->set_name(AdapterLabel(entry.info.tenant, entry.info.name));
  message->clear_labels();
  message->clear_base_model_name_or_path();
}

void FillSharing(const AdapterSharing& sharing, v1::Sharing* message) {
  message->Clear();
  message->set_all_tenants(sharing.all_tenants);
  for (const std::string& id : sharing.tenants) message->add_tenants(id);
}

std::vector<std::string> TargetModules(absl::Span<const BaseModule> base) {
  Kinds kinds = 0;
  for (const BaseModule& module : base) {
    kinds |= BitOf(static_cast<size_t>(module.kind));
  }
  return Names(kinds, base);
}

}  // namespace descant
