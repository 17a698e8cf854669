// From disk to tensors: what a cold adapter costs before it is packed, whole
// and by part. Rank 8 on q and v of SmolLM2-135M, and rank 16 on all.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "adapters/base_shape.h"
#include "adapters/formats/random_adapter.h"
#include "adapters/identity.h"
#include "adapters/store.h"
#include "adapters/value_check.h"
#include "runtime/base/check.h"

namespace descant {
namespace {

BaseShape SmolBase() {
  BaseShape base;
  base.fingerprint = "sha256:smol";
  struct Linear {
    const char* name;
    int32_t in;
    int32_t out;
  };
  constexpr Linear kLinears[] = {
      {"self_attn.q_proj", 576, 576}, {"self_attn.k_proj", 576, 192},
      {"self_attn.v_proj", 576, 192}, {"self_attn.o_proj", 576, 576},
      {"mlp.gate_proj", 576, 1536},   {"mlp.up_proj", 576, 1536},
      {"mlp.down_proj", 1536, 576}};
  for (int32_t layer = 0; layer < 30; ++layer) {
    for (size_t kind = 0; kind < std::size(kLinears); ++kind) {
      base.modules.push_back(
          {absl::StrCat("model.layers.", layer, ".", kLinears[kind].name),
           kLinears[kind].in, kLinears[kind].out, layer,
           static_cast<LinearKind>(kind)});
    }
  }
  return base;
}

AdapterFiles Files(bool wide) {
  std::vector<RandomAdapterModule> modules;
  for (const BaseModule& module : SmolBase().modules) {
    if (wide || module.kind == LinearKind::kQ ||
        module.kind == LinearKind::kV) {
      modules.push_back({module.path, module.in, module.out});
    }
  }
  RandomAdapterOptions options;
  options.rank = wide ? 16 : 8;
  return MakeRandomAdapter(modules, options);
}

// One adapter in a store in a temporary folder.
struct Stored {
  explicit Stored(bool wide) : files(Files(wide)) {
    directory = absl::StrCat(std::filesystem::temp_directory_path().string(),
                             "/read_bench.", ::getpid());
    StoreOptions options;
    options.directory = directory;
    auto opened =
        AdapterStore::Open(&fs, &clock, options,
                           std::make_shared<BaseShape>(SmolBase()), &registry);
    DESCANT_CHECK(opened.ok());
    store = *std::move(opened);
    UploadSpec spec;
    spec.name = "a";
    spec.config_json = files.config_json;
    spec.declared_size = files.safetensors_bytes.size();
    auto upload = store->BeginUpload(std::move(spec));
    DESCANT_CHECK(upload.ok());
    DESCANT_CHECK((*upload)->Append(files.safetensors_bytes).ok());
    DESCANT_CHECK((*upload)->Commit().ok());
    adapter = *registry.Lookup("", {"a", ""});
  }
  ~Stored() {
    adapter.reset();
    store.reset();
    std::filesystem::remove_all(directory);
  }

  const AdapterFiles files;
  PosixFs fs;
  SystemClock clock;
  AdapterRegistry registry;
  std::string directory;
  std::unique_ptr<AdapterStore> store;
  std::shared_ptr<const Adapter> adapter;
};

void SetBytes(benchmark::State& state, const AdapterFiles& files) {
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) *
                          static_cast<int64_t>(files.safetensors_bytes.size()));
}

void BM_Load(benchmark::State& state) {
  const Stored stored(state.range(0) != 0);
  for (auto _ : state) {
    auto loaded = stored.adapter->source->Load(*stored.adapter);
    DESCANT_CHECK(loaded.ok());
    benchmark::DoNotOptimize(loaded);
  }
  SetBytes(state, stored.files);
}
BENCHMARK(BM_Load)->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond);

void BM_Sha256(benchmark::State& state) {
  const AdapterFiles files = Files(state.range(0) != 0);
  for (auto _ : state) {
    benchmark::DoNotOptimize(Sha256Of(files.safetensors_bytes));
  }
  SetBytes(state, files);
}
BENCHMARK(BM_Sha256)->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond);

void BM_ValueCheck(benchmark::State& state) {
  const AdapterFiles files = Files(state.range(0) != 0);
  const size_t bytes = files.safetensors_bytes.size() / 2 * 2;
  for (auto _ : state) {
    ValueCheck check(Dtype::kBF16, 3e38f);
    benchmark::DoNotOptimize(check.Append(
        absl::MakeConstSpan(files.safetensors_bytes.data(), bytes)));
  }
  SetBytes(state, files);
}
BENCHMARK(BM_ValueCheck)->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond);

void BM_Validate(benchmark::State& state) {
  const AdapterFiles files = Files(state.range(0) != 0);
  const BaseShape base = SmolBase();
  for (auto _ : state) {
    auto validator = AdapterValidator::Create(
        files.config_json, files.safetensors_bytes.size(), &base,
        AdapterLimits(), /*hash_file=*/false);
    DESCANT_CHECK(validator.ok());
    DESCANT_CHECK((*validator)->Append(files.safetensors_bytes).ok());
    DESCANT_CHECK((*validator)->Finish().ok());
  }
  SetBytes(state, files);
}
BENCHMARK(BM_Validate)->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace descant

BENCHMARK_MAIN();
