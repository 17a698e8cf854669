#include "server/config.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <set>
#include <sstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "runtime/base/fs.h"
#include "runtime/base/log.h"
#include "runtime/base/status_macros.h"
#include "server/config_values.h"
#include "server/tenants.h"
#include "server/yaml_file.h"

namespace descant {
namespace {

constexpr uint64_t kMaxConfigFileBytes = 1 << 20;

// One option: a flag and a YAML key.
struct Option {
  absl::string_view name;
  absl::string_view value;  // for --help; empty: a switch
  absl::string_view help;
  std::function<absl::Status(absl::string_view, ServerConfig*)> set;
};

template <typename T>
auto Text(T ServerConfig::*field) {
  return [field](absl::string_view text, ServerConfig* config) {
    if (text.empty()) return absl::InvalidArgumentError("must not be empty");
    config->*field = std::string(text);
    return absl::OkStatus();
  };
}

auto Number(int32_t ServerConfig::*field, int64_t min, int64_t max) {
  return [field, min, max](absl::string_view text, ServerConfig* config) {
    return ParseNumber(text, min, max, &(config->*field));
  };
}

auto Bytes(uint64_t ServerConfig::*field, uint64_t min) {
  return [field, min](absl::string_view text, ServerConfig* config) {
    return ParseBytes(text, min, &(config->*field));
  };
}

auto Time(Duration ServerConfig::*field) {
  return [field](absl::string_view text, ServerConfig* config) {
    return ParseDuration(text, std::chrono::milliseconds(1),
                         std::chrono::hours(24), &(config->*field));
  };
}

auto Switch(bool ServerConfig::*field) {
  return [field](absl::string_view text, ServerConfig* config) {
    return ParseBool(text, &(config->*field));
  };
}

auto Address(std::string ServerConfig::*field, bool may_be_none) {
  return [field, may_be_none](absl::string_view text,
                              ServerConfig* config) -> absl::Status {
    if (!may_be_none || text != "none") {
      DESCANT_RETURN_IF_ERROR(ValidateAddress(text));
    }
    config->*field = std::string(text);
    return absl::OkStatus();
  };
}

absl::Status SetDevice(absl::string_view text, ServerConfig* config) {
  if (text != "auto" && text != "cpu" && text != "reference" &&
      text != "cuda") {
    return absl::InvalidArgumentError("must be auto, cpu, reference or cuda");
  }
  config->device = std::string(text);
  return absl::OkStatus();
}

absl::Status SetWeights(absl::string_view text, ServerConfig* config) {
  const std::optional<WeightType> type = ParseWeightType(text);
  if (!type.has_value()) {
    return absl::InvalidArgumentError("must be bf16, int8 or int4");
  }
  config->weights = *type;
  return absl::OkStatus();
}

// A flag that states what this version does anyway, and can't ask for more.
auto Only(absl::string_view served) {
  return [served](absl::string_view text, ServerConfig*) -> absl::Status {
    if (text == served) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("must be ", served, ": this version serves nothing else"));
  };
}

absl::Status NotServed(absl::string_view, ServerConfig*) {
  return absl::InvalidArgumentError("is not served by this version");
}

using C = ServerConfig;
constexpr int64_t kMega = 1 << 20;

const std::vector<Option>& Options() {
  static const auto* const options = new std::vector<Option>{
      {"model", "PATH",
       "Base model: a GGUF file or a Hugging Face directory. Required.",
       Text(&C::model)},
      {"device", "NAME",
       "auto, cpu, reference (fp32, slow) or cuda. Default auto: cuda if "
       "built and present, else cpu.",
       SetDevice},
      {"threads", "N", "Kernel threads. Default: one for each CPU.",
       Number(&C::threads, 1, 1024)},
      {"listen", "HOST:PORT",
       "Generation and adapters. Default 127.0.0.1:50051.",
       Address(&C::listen, false)},
      {"admin-listen", "HOST:PORT",
       "Operators' service, or none. Default 127.0.0.1:50052.",
       Address(&C::admin_listen, true)},
      {"metrics-listen", "HOST:PORT",
       "Prometheus page /metrics, or none. Default 127.0.0.1:9090.",
       Address(&C::metrics_listen, true)},
      {"tenants", "FILE",
       "YAML file of tenants and hashes of their API keys; only its owner may "
       "have access to it. Every generation and adapter call then needs "
       "\"authorization: Bearer KEY\" and sees its tenant's adapters only.",
       Text(&C::tenants_file)},
      {"insecure-no-auth", "",
       "Allow --listen (without --tenants) or --admin-listen on an address "
       "that other machines reach, although callers are not authenticated.",
       Switch(&C::insecure_no_auth)},
      {"reflection", "",
       "gRPC reflection also where --listen is not a loopback address. Not "
       "with --tenants.",
       Switch(&C::reflection)},
      {"weights", "TYPE",
       "Base weights in memory: bf16 (default), int8 with a scale for each "
       "output channel, or int4 with a scale for each group of 32 (the head 8 "
       "bits).",
       SetWeights},
      {"weights-cache", "DIR",
       "Where packed weights are kept for the next start, or none. A folder of "
       "the server's user alone; the 4 files used last stay. Default: descant "
       "in the user's cache directory.",
       Text(&C::weights_cache)},
      {"hot-merge", "off", "Adapters merged into the weights. Only off so far.",
       Only("off")},
      {"adapters-manifest", "FILE", "Not served by this version.", NotServed},
      {"max-model-len", "N",
       "Prompt and answer together, in tokens. Default: the model's.",
       Number(&C::max_model_len, 1, kMega)},
      {"token-budget", "N",
       "Most rows of one step: decodes and prefill chunks. Fewer: others' "
       "tokens wait less for a prefill. Default 128.",
       Number(&C::token_budget, 1, 65536)},
      {"max-running", "N", "Most sequences that run at once. Default 64.",
       Number(&C::max_running, 1, 4096)},
      {"max-waiting", "N",
       "Most requests that wait; beyond it the answer is UNAVAILABLE. "
       "Default 1024.",
       Number(&C::max_waiting, 1, kMega)},
      {"kv-memory", "SIZE", "KV cache, for instance 2GiB. Default: chosen.",
       Bytes(&C::kv_memory, 1 << 20)},
      {"adapter-memory", "SIZE",
       "Adapters on the device, for instance 512MiB. Default: chosen.",
       Bytes(&C::adapter_memory, 1 << 20)},
      {"max-adapters", "N",
       "Most adapters on the device at once; 0: none are served. Default 64.",
       Number(&C::max_adapters, 0, 65536)},
      {"max-adapter-rank", "N", "Highest rank an upload may have. Default 512.",
       Number(&C::max_adapter_rank, 1, 512)},
      {"adapter-dir", "PATH",
       "Where uploads are kept. Default: descant/adapters in the user's "
       "state directory.",
       Text(&C::adapter_dir)},
      {"max-stored-adapters", "N",
       "Most adapters kept; beyond it uploads are refused. Default 100000.",
       Number(&C::max_stored_adapters, 1, 100 * kMega)},
      {"max-upload-size", "SIZE",
       "Largest tensors file of an upload. Default 1GiB.",
       Bytes(&C::max_upload_size, 1024)},
      {"request-timeout", "TIME",
       "Deadline of requests that have none, and the latest for all. "
       "Default 10m.",
       Time(&C::request_timeout)},
      {"stream-stall-timeout", "TIME",
       "A stream whose reader takes nothing for so long is ended. Default "
       "30s.",
       Time(&C::stream_stall_timeout)},
      {"upload-idle-timeout", "TIME",
       "An upload that sends nothing for so long is ended. Default 30s.",
       Time(&C::upload_idle_timeout)},
      {"drain-timeout", "TIME",
       "After SIGTERM: how long accepted requests may take. Default 30s.",
       Time(&C::drain_timeout)},
  };
  return *options;
}

const Option* FindOption(absl::string_view name) {
  for (const Option& option : Options()) {
    if (option.name == name) return &option;
  }
  return nullptr;
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
    const Option* option = FindOption(key);
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
  PosixFs fs;
  auto content = ReadFile(&fs, path, kMaxConfigFileBytes);
  if (!content.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": cannot be read as a file"));
  }
  DESCANT_ASSIGN_OR_RETURN(const YAML::Node root, ParseYaml(*content, path));
  return ApplyYaml(root, path, config);
}

// The command line as (flag, value) in order.
using Given = std::vector<std::pair<const Option*, std::string>>;

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
      bool C::*const asks = name == "help"            ? &C::help
                            : name == "help-markdown" ? &C::help_markdown
                            : name == "version"       ? &C::version
                                                      : nullptr;
      if (asks != nullptr) {
        config->*asks = true;
        continue;
      }
    }
    const Option* option = FindOption(name);
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
  // The sum may wrap where both are absurd; each alone is checked first.
  if (config.kv_memory > machine || config.adapter_memory > machine ||
      config.kv_memory + config.adapter_memory > machine) {
    return absl::InvalidArgumentError(
        absl::StrCat("--kv-memory, --adapter-memory: together more than the ",
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
    const bool open = flag == "--metrics-listen" ||
                      (flag == "--listen" && config.tenants != nullptr);
    if (!open && !IsLoopbackAddress(address) && !config.insecure_no_auth) {
      return absl::InvalidArgumentError(absl::StrCat(
          flag,
          ": other machines reach this address and callers are not "
          "authenticated; bind a loopback address",
          flag == "--listen" ? ", give --tenants" : "",
          ", or say --insecure-no-auth"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckWhole(ServerConfig* config) {
  if (config->model.empty()) {
    return absl::InvalidArgumentError(
        "--model: required, a GGUF file or a Hugging Face directory");
  }
  if (!config->tenants_file.empty()) {
    auto tenants = TenantDirectory::Load(config->tenants_file);
    if (!tenants.ok()) return Explain("--tenants", tenants.status());
    config->tenants = *std::move(tenants);
    // It would be an open RPC.
    if (config->reflection) {
      return absl::InvalidArgumentError("--reflection: not with --tenants");
    }
  }
  DESCANT_RETURN_IF_ERROR(CheckAddresses(*config));
  DESCANT_RETURN_IF_ERROR(CheckMemory(*config));
  if (config->adapter_dir.empty()) {
    DESCANT_ASSIGN_OR_RETURN(config->adapter_dir, DefaultAdapterDir());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ServerConfig> ParseConfig(
    const std::vector<std::string>& arguments) {
  ServerConfig config;
  std::string path;
  DESCANT_ASSIGN_OR_RETURN(const Given given,
                           SplitArguments(arguments, &path, &config));
  if (config.help || config.help_markdown || config.version) return config;
  if (!path.empty()) {
    DESCANT_RETURN_IF_ERROR(ApplyFile(path, &config));
  }
  for (const auto& [option, value] : given) {
    if (auto status = option->set(value, &config); !status.ok()) {
      return Explain(absl::StrCat("--", option->name), status);
    }
  }
  DESCANT_RETURN_IF_ERROR(CheckWhole(&config));
  return config;
}

std::string OptionsHelp() {
  static constexpr size_t kColumn = 31;
  static constexpr size_t kWidth = 79;
  std::string text;
  const auto add = [&text](const std::string& left, absl::string_view help) {
    std::string line = absl::StrCat("  ", left);
    line.resize(std::max(kColumn, line.size() + 1), ' ');
    std::istringstream words{std::string(help)};
    for (std::string word; words >> word;) {
      if (line.size() + word.size() > kWidth) {
        absl::StrAppend(&text, absl::StripTrailingAsciiWhitespace(line), "\n");
        line.assign(kColumn, ' ');
      }
      absl::StrAppend(&line, word, " ");
    }
    absl::StrAppend(&text, absl::StripTrailingAsciiWhitespace(line), "\n");
  };
  add("--config=PATH",
      "YAML file with the same names as the flags below, for instance "
      "\"token-budget: 512\". Flags win over the file.");
  for (const Option& option : Options()) {
    add(absl::StrCat("--", option.name, option.value.empty() ? "" : "=",
                     option.value),
        option.help);
  }
  add("--version", "Print the version and exit.");
  add("--help", "Print this text and exit.");
  add("--help-markdown", "The same as the page server/CONFIGURATION.md.");
  return text;
}

std::string OptionsMarkdown() {
  std::string text =
      "# Configuration of descant-server\n"
      "\n"
      "Made by `descant-server --help-markdown`; a test fails when it is "
      "stale.\n"
      "\n"
      "Every option is a flag, `--name=value`, and a key of the YAML file "
      "given "
      "by\n"
      "`--config=PATH`, `name: value`. A flag wins over the file, the file "
      "over "
      "the\n"
      "default. An unknown or repeated name and a value that is not allowed "
      "end "
      "the\n"
      "server before it starts, with one line and exit code 78. Switches are "
      "`--name`\n"
      "or `name: true`.\n"
      "\n"
      "| option | value | meaning |\n"
      "| --- | --- | --- |\n";
  for (const Option& option : Options()) {
    absl::StrAppend(&text, "| `", option.name, "` | ",
                    option.value.empty() ? "switch" : option.value, " | ",
                    option.help, " |\n");
  }
  absl::StrAppend(
      &text,
      "\n"
      "Sizes are `512MiB`, `2GiB` or bytes; times `500ms`, `30s`, `10m`, "
      "`2h`.\n"
      "`--version`, `--help` and `--help-markdown` print and exit.\n"
      "\n"
      "Limits that are not options are in `server/limits.h`. The environment "
      "variable\n"
      "`DESCANT_CPU_ISA` (avx2, avx512, amx) forces a lower instruction set "
      "than the\n"
      "machine has.\n");
  return text;
}

}  // namespace descant
