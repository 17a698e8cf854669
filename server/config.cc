#include "server/config.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "runtime/base/log.h"
#include "runtime/base/status_macros.h"
#include "server/config_options.h"
#include "server/operator_file.h"
#include "server/tenants.h"
#include "server/tls_certificate.h"
#include "server/yaml_file.h"

namespace descant {
namespace {

constexpr uint64_t kMaxConfigFileBytes = 1 << 20;

// Null where `options` have none of this name.
const ConfigOption* FindIn(const std::vector<ConfigOption>& options,
                           absl::string_view name) {
  for (const ConfigOption& option : options) {
    if (option.name == name) return &option;
  }
  return nullptr;
}

// A flag's.
const ConfigOption* FindOption(absl::string_view name) {
  const ConfigOption* option = FindIn(ConfigOptions(), name);
  return option != nullptr ? option : FindIn(CommandOptions(), name);
}

absl::Status Explain(absl::string_view where, const absl::Status& status) {
  return absl::InvalidArgumentError(
      absl::StrCat(where, ": ", status.message()));
}

// Finds duplicate keys too, which yaml-cpp lets pass.
absl::Status ApplyYaml(const YAML::Node& root, const std::string& path,
                       ServerConfig* config) {
  if (!root.IsMap()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": must be a map of options"));
  }
  std::set<std::string> seen;
  for (const auto& entry : root) {
    if (!entry.first.IsScalar()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": keys must be plain names"));
    }
    const std::string key = entry.first.Scalar();
    const std::string where = absl::StrCat(
        path, ":", entry.first.Mark().line + 1, ": ", LogSafe(key));
    const ConfigOption* option = FindIn(ConfigOptions(), key);
    if (option == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": unknown key"));
    }
    if (!seen.insert(key).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": given more than once"));
    }
    if (!entry.second.IsScalar()) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": must be a single value"));
    }
    const std::string value = entry.second.Scalar();
    if (auto status = option->set(value, config); !status.ok()) {
      return Explain(where, status);
    }
  }
  return absl::OkStatus();
}

absl::Status ApplyFile(const std::string& path, ServerConfig* config) {
  DESCANT_ASSIGN_OR_RETURN(const std::string content,
                           ReadOperatorFile(path, kMaxConfigFileBytes));
  DESCANT_ASSIGN_OR_RETURN(const YAML::Node root, ParseYaml(content, path));
  return ApplyYaml(root, path, config);
}

// The command line as (flag, value) in order.
using Given = std::vector<std::pair<const ConfigOption*, std::string>>;

absl::Status UnknownFlag(absl::string_view name) {
  return absl::InvalidArgumentError(absl::StrCat(
      "--", LogSafe(name), ": unknown flag; --help lists them all"));
}

absl::StatusOr<Given> SplitArguments(const std::vector<std::string>& arguments,
                                     std::string* config_path,
                                     ServerConfig* config) {
  Given given;
  std::set<std::string> seen;
  for (size_t i = 0; i < arguments.size(); ++i) {
    absl::string_view text = arguments[i];
    if (text == "-h") text = "--help";
    if (!absl::ConsumePrefix(&text, "--") || text.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(
          LogSafe(arguments[i]), ": not a flag; flags are --name=value"));
    }
    const size_t equals = text.find('=');
    const std::string name(text.substr(0, equals));
    if (equals == absl::string_view::npos) {
      bool ServerConfig::*const asks =
          name == "help"            ? &ServerConfig::help
          : name == "help-markdown" ? &ServerConfig::help_markdown
          : name == "version"       ? &ServerConfig::version
          : name == "make-key"      ? &ServerConfig::make_key
          : name == "verify-store"  ? &ServerConfig::verify_store
          : name == "self-test"     ? &ServerConfig::self_test
                                    : nullptr;
      if (asks != nullptr) {
        config->*asks = true;
        continue;
      }
    }
    const ConfigOption* option = FindOption(name);
    if (option == nullptr && name != "config") return UnknownFlag(name);
    if (!seen.insert(name).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", name, ": given more than once"));
    }
    std::string value;
    if (equals != absl::string_view::npos) {
      value = std::string(text.substr(equals + 1));
    } else if (option != nullptr && option->value.empty()) {
      value = "true";
    } else if (i + 1 < arguments.size()) {
      value = arguments[++i];
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("--", name, ": needs a value"));
    }
    if (option == nullptr) {
      *config_path = value;
    } else {
      given.emplace_back(option, value);
    }
  }
  return given;
}

absl::Status CheckMemory(const ServerConfig& config) {
  const uint64_t machine = MachineMemoryBytes();
  const uint64_t parts[] = {config.kv_memory, config.adapter_memory,
                            config.host_adapter_memory, config.request_memory,
                            config.merge_memory};
  // The sum may wrap where they are absurd; each alone is checked first.
  if (std::any_of(std::begin(parts), std::end(parts),
                  [machine](uint64_t part) { return part > machine; }) ||
      std::accumulate(std::begin(parts), std::end(parts), uint64_t{0}) >
          machine) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--kv-memory, --adapter-memory, --host-adapter-memory, "
        "--request-memory, --merge-memory: together more than the ",
        machine >> 20, "MiB of memory there are"));
  }
  return absl::OkStatus();
}

absl::Status CheckAddresses(const ServerConfig& config) {
  const std::pair<absl::string_view, absl::string_view> listeners[] = {
      {"--listen", config.listen},
      {"--admin-listen", config.admin_listen},
      {"--metrics-listen", config.metrics_listen}};
  std::set<std::string> taken;
  for (const auto& [flag, address] : listeners) {
    if (address == "none") continue;
    if (!taken.insert(std::string(address)).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(flag, ": another listener has this address"));
    }
    // The page of metrics holds no tenant's data and takes no commands.
    const bool open = flag == "--metrics-listen" || config.tenants != nullptr;
    if (!open && !IsLoopbackAddress(address) && !config.insecure_no_auth) {
      return absl::InvalidArgumentError(absl::StrCat(
          flag,
          ": other machines reach this address and callers are not "
          "authenticated; bind a loopback address, give --tenants, or say "
          "--insecure-no-auth"));
    }
    const bool has_keys =
        flag != "--metrics-listen" && config.tenants != nullptr;
    if (has_keys && config.tls == nullptr && !IsLoopbackAddress(address) &&
        !config.insecure_no_tls) {
      return absl::InvalidArgumentError(absl::StrCat(
          flag,
          ": API keys would cross the network in clear; give --tls-cert and "
          "--tls-key, or, behind a proxy or mesh that encrypts, say "
          "--insecure-no-tls"));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadTls(ServerConfig* config) {
  if (config->tls_cert.empty() != config->tls_key.empty()) {
    return absl::InvalidArgumentError(
        "--tls-cert, --tls-key: one needs the other");
  }
  if (config->tls_cert.empty() && !config->tls_client_ca.empty()) {
    return absl::InvalidArgumentError("--tls-client-ca: needs --tls-cert");
  }
  if (config->tls_client_ca.empty() && config->tls_require_client_cert) {
    return absl::InvalidArgumentError(
        "--tls-require-client-cert: needs --tls-client-ca");
  }
  if (config->tls_cert.empty()) return absl::OkStatus();
  auto material = LoadTlsMaterial(
      {config->tls_cert, config->tls_key, config->tls_client_ca},
      SystemClock().UnixSeconds());
  if (!material.ok()) return Explain("TLS", material.status());
  config->tls = *std::move(material);
  return absl::OkStatus();
}

// Whether all that --export-merged needs is there, and only then.
absl::Status CheckExport(const ServerConfig& config, const Given& given) {
  if (!config.export_merged.empty()) {
    if (!config.out.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError("--export-merged: needs --out");
  }
  for (const auto& [option, value] : given) {
    if (FindIn(CommandOptions(), option->name) == nullptr) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("--", option->name, ": needs --export-merged"));
  }
  return absl::OkStatus();
}

absl::Status CheckWhole(ServerConfig* config) {
  if (config->adapter_dir.empty()) {
    DESCANT_ASSIGN_OR_RETURN(config->adapter_dir, DefaultAdapterDir());
  }
  if (config->verify_store) return absl::OkStatus();
  if (config->model.empty()) {
    return absl::InvalidArgumentError(
        "--model: required, a GGUF file or a Hugging Face directory");
  }
  if (!config->export_merged.empty()) return absl::OkStatus();  // no listener
  if (!config->tenants_file.empty()) {
    auto tenants = TenantDirectory::Load(config->tenants_file);
    if (!tenants.ok()) return Explain("--tenants", tenants.status());
    config->tenants = *std::move(tenants);
    // It would be an open RPC.
    if (config->reflection) {
      return absl::InvalidArgumentError("--reflection: not with --tenants");
    }
  }
  DESCANT_RETURN_IF_ERROR(ReadTls(config));
  if (config->audit_fail_closed && config->audit_log.empty()) {
    return absl::InvalidArgumentError("--audit-fail-closed: needs --audit-log");
  }
  DESCANT_RETURN_IF_ERROR(CheckAddresses(*config));
  return CheckMemory(*config);
}

}  // namespace

absl::StatusOr<ServerConfig> ParseConfig(
    const std::vector<std::string>& arguments) {
  ServerConfig config;
  std::string path;
  DESCANT_ASSIGN_OR_RETURN(const Given given,
                           SplitArguments(arguments, &path, &config));
  if (config.help || config.help_markdown || config.version ||
      config.make_key) {
    return config;
  }
  if (!path.empty()) {
    DESCANT_RETURN_IF_ERROR(ApplyFile(path, &config));
  }
  for (const auto& [option, value] : given) {
    if (auto status = option->set(value, &config); !status.ok()) {
      return Explain(absl::StrCat("--", option->name), status);
    }
  }
  DESCANT_RETURN_IF_ERROR(CheckExport(config, given));
  DESCANT_RETURN_IF_ERROR(CheckWhole(&config));
  return config;
}

}  // namespace descant
