#include "server/adapter_message.h"

#include <array>
#include <cmath>

namespace descant {
namespace {

constexpr std::array<const char*, kLinearKinds> kKindNames = {
    "q_proj",  "k_proj",    "v_proj",   "o_proj",      "gate_proj",
    "up_proj", "down_proj", "qkv_proj", "gate_up_proj"};

using Kinds = std::array<bool, kLinearKinds>;

std::vector<std::string> Names(const Kinds& kinds) {
  std::vector<std::string> names;
  for (size_t i = 0; i < kinds.size(); ++i) {
    if (kinds[i]) names.emplace_back(kKindNames[i]);
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

void FillModules(const Adapter& adapter, v1::Adapter* message) {
  Kinds kinds{};
  uint64_t parameters = 0;
  for (const AdapterModule& module : adapter.modules) {
    kinds[static_cast<size_t>(module.kind)] = true;
    parameters += static_cast<uint64_t>(module.a.rows) * module.a.columns +
                  static_cast<uint64_t>(module.b.rows) * module.b.columns;
  }
  for (std::string& name : Names(kinds)) {
    message->add_target_modules(std::move(name));
  }
  message->set_parameter_count(parameters);
}

}  // namespace

void FillAdapter(const RegistryEntry& entry, v1::Adapter* message) {
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
  if (entry.adapter != nullptr) FillModules(*entry.adapter, message);
}

std::vector<std::string> TargetModules(const BaseShape& base) {
  Kinds kinds{};
  for (const BaseModule& module : base.modules) {
    kinds[static_cast<size_t>(module.kind)] = true;
  }
  return Names(kinds);
}

}  // namespace descant
