// What adapters that aren't resident cost, through the real engine and CPU
// runner on the demo model, rank 8 on q and v, from a store in a temporary
// folder (its files are in the page cache):
//   - by part: disk to image, image to slot;
//   - a cold start against a resident one, from Submit to the first token;
//   - the gaps between tokens of running streams, quiet and while cold adapters
//     load one after the other.
//
// loads_bench MODEL.gguf [adapters [streams]]
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "adapters/formats/random_adapter.h"
#include "adapters/store.h"
#include "runtime/base/check.h"
#include "runtime/base/mutex.h"
#include "runtime/engine.h"
#include "runtime/model/model.h"
#include "runtime/tokenizer/tokenizer.h"

namespace descant {
namespace {

double Milliseconds(Duration duration) { return ToSeconds(duration) * 1e3; }

double CpuMilliseconds() {
  timespec time;
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e3 +
         static_cast<double>(time.tv_nsec) * 1e-6;
}

double Quantile(std::vector<double> values, double q) {
  DESCANT_CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  const auto last = static_cast<double>(values.size() - 1);
  return values[static_cast<size_t>(q * last + 0.5)];
}

// Times of its tokens.
class TimingSink final : public TokenSink {
 public:
  void OnTokens(int32_t, absl::Span<const TokenEvent>,
                const std::string&) override {
    MutexLock lock(&mutex_);
    times_.push_back(std::chrono::steady_clock::now());
    changed_.SignalAll();
  }
  void OnFinish(const RequestResult& result) override {
    MutexLock lock(&mutex_);
    if (!result.status.ok() && !absl::IsCancelled(result.status)) {
      std::printf("INVALID: %s\n", result.status.ToString().c_str());
      std::exit(1);
    }
    finished_ = true;
    changed_.SignalAll();
  }
  void WaitForTokens(size_t count) {
    MutexLock lock(&mutex_);
    while (times_.size() < count && !finished_) changed_.Wait(&mutex_);
  }
  void Wait() {
    MutexLock lock(&mutex_);
    while (!finished_) changed_.Wait(&mutex_);
  }
  std::vector<MonotonicTime> times() {
    MutexLock lock(&mutex_);
    return times_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::vector<MonotonicTime> times_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

class LoadsBench {
 public:
  LoadsBench(const std::string& model, int adapters, int streams)
      : streams_(streams) {
    auto loaded = LoadModel(model);
    DESCANT_CHECK(loaded.ok());
    model_ = *std::move(loaded);
    FillStore(adapters);
    MakeEngine();
  }
  ~LoadsBench() {
    engine_->Stop(clock_.Now());
    engine_.reset();
    adapters_.clear();
    store_.reset();
    std::filesystem::remove_all(directory_);
  }

  void Run() {
    Parts();
    ColdStarts();
    Gaps();
  }

 private:
  static constexpr int kStarts = 20;

  void FillStore(int count) {
    directory_ = absl::StrCat(std::filesystem::temp_directory_path().string(),
                              "/loads_bench.", ::getpid());
    StoreOptions options;
    options.directory = directory_;
    auto store = AdapterStore::Open(
        &fs_, &clock_, options,
        std::make_shared<BaseShape>(model_.model->base_shape), &registry_);
    DESCANT_CHECK(store.ok());
    store_ = *std::move(store);
    std::vector<RandomAdapterModule> modules;
    for (const BaseModule& module : model_.model->base_shape.modules) {
      if (module.kind == LinearKind::kQ || module.kind == LinearKind::kV) {
        modules.push_back({module.path, module.in, module.out});
      }
    }
    for (int i = 0; i < count + 2 * kStarts; ++i) {
      RandomAdapterOptions random;
      random.seed = i;
      const AdapterFiles files = MakeRandomAdapter(modules, random);
      UploadSpec spec;
      spec.name = absl::StrCat("a", i);
      spec.config_json = files.config_json;
      spec.declared_size = files.safetensors_bytes.size();
      auto upload = store_->BeginUpload(std::move(spec));
      DESCANT_CHECK(upload.ok());
      DESCANT_CHECK((*upload)->Append(files.safetensors_bytes).ok());
      DESCANT_CHECK((*upload)->Commit().ok());
      adapters_.push_back(*registry_.Lookup("", {absl::StrCat("a", i), ""}));
    }
  }

  std::unique_ptr<Runner> MakeRunner() {
    RunnerOptions options;
    options.limits.max_rows = 128;
    options.limits.max_sequences = 32;
    options.limits.max_outputs = 32;
    options.limits.max_blocks_per_sequence = 64;
    options.limits.max_slots = 16;
    options.kv_bytes = uint64_t{256} << 20;
    options.adapter_bytes = uint64_t{64} << 20;
    auto runner = MakeCpuRunner(model_.model, options);
    DESCANT_CHECK(runner.ok());
    return *std::move(runner);
  }

  void MakeEngine() {
    EngineOptions options;
    options.max_model_len = 2048;
    auto engine = Engine::Create(MakeRunner(), model_.tokenizer,
                                 model_.model->eos_token_ids, options, &clock_);
    DESCANT_CHECK(engine.ok());
    engine_ = *std::move(engine);
  }

  std::shared_ptr<TimingSink> Submit(std::shared_ptr<const Adapter> adapter,
                                     int32_t tokens) {
    Request request;
    request.id = ++last_id_;
    for (int i = 0; i < 8; ++i) request.prompt.push_back(100 + i * 31);
    request.sampling.max_tokens = tokens;
    request.sampling.temperature = 0;
    request.sampling.ignore_eos = true;
    request.adapter = std::move(adapter);
    request.arrival = clock_.Now();
    auto sink = std::make_shared<TimingSink>();
    DESCANT_CHECK(engine_->Submit(std::move(request), sink).ok());
    return sink;
  }

  double FirstToken(const std::shared_ptr<const Adapter>& adapter) {
    const MonotonicTime begin = clock_.Now();
    const auto sink = Submit(adapter, 1);
    sink->Wait();
    return Milliseconds(sink->times().at(0) - begin);
  }

  void Parts() {
    const std::unique_ptr<Runner> runner = MakeRunner();
    std::vector<double> read, pack, place;
    double bytes = 0;
    for (int i = 0; i < kStarts; ++i) {
      const double begin = CpuMilliseconds();
      const auto loaded = adapters_[i]->source->Load(*adapters_[i]);
      const double was_read = CpuMilliseconds();
      const auto image = runner->PackAdapter(*loaded);
      const double packed = CpuMilliseconds();
      DESCANT_CHECK(runner->LoadImage(0, *image).ok());
      read.push_back(was_read - begin);
      pack.push_back(packed - was_read);
      place.push_back(CpuMilliseconds() - packed);
      bytes = static_cast<double>((*image)->bytes());
    }
    const auto print = [bytes](const char* what, const auto& values) {
      const double ms = Quantile(values, 0.5);
      std::printf("%-28s %7.3f ms of CPU, %6.2f GB/s\n", what, ms,
                  bytes * 1e-6 / ms);
    };
    std::printf("image: %.0f bytes\n", bytes);
    print("read and check", read);
    print("pack", pack);
    print("image to slot", place);
  }

  void ColdStarts() {
    FirstToken(adapters_[0]);
    std::vector<double> cold, resident, from_host;
    for (int i = kStarts; i < 2 * kStarts; ++i) {
      cold.push_back(FirstToken(adapters_[i]));
      resident.push_back(FirstToken(adapters_[i]));
    }
    for (int i = kStarts; i < 2 * kStarts; ++i) {
      from_host.push_back(FirstToken(adapters_[i]));
    }
    std::printf(
        "first token: resident %.2f ms, from disk %.2f ms, from host "
        "memory or resident %.2f ms (medians of %d)\n",
        Quantile(resident, 0.5), Quantile(cold, 0.5), Quantile(from_host, 0.5),
        kStarts);
  }

  void Gaps() {
    constexpr int32_t kTokens = 1800;
    std::vector<std::shared_ptr<TimingSink>> sinks;
    std::vector<RequestId> ids;
    for (int i = 0; i < streams_; ++i) {
      sinks.push_back(Submit(adapters_[i], kTokens));
      ids.push_back(last_id_);
    }
    for (const auto& sink : sinks) sink->WaitForTokens(50);
    const MonotonicTime quiet = clock_.Now();
    for (const auto& sink : sinks) sink->WaitForTokens(400);
    const MonotonicTime begin = clock_.Now();
    for (size_t i = 2 * kStarts; i < adapters_.size(); ++i) {
      // Of no request: a step with a prompt in it is longer than others.
      Mutex mutex;
      CondVar changed;
      bool loaded = false;
      engine_->Manage(AdapterAction::kLoadDevice, adapters_[i],
                      [&](const AdapterActionResult& result) {
                        DESCANT_CHECK(result.status.ok());
                        MutexLock lock(&mutex);
                        loaded = true;
                        changed.SignalAll();
                      });
      MutexLock lock(&mutex);
      while (!loaded) changed.Wait(&mutex);
    }
    const MonotonicTime end = clock_.Now();
    for (const RequestId id : ids) engine_->Cancel(id);
    for (const auto& sink : sinks) sink->Wait();
    std::vector<double> before, during;
    for (const auto& sink : sinks) {
      const std::vector<MonotonicTime> times = sink->times();
      for (size_t i = 1; i < times.size(); ++i) {
        const double gap = Milliseconds(times[i] - times[i - 1]);
        if (times[i - 1] >= quiet && times[i] < begin) before.push_back(gap);
        if (times[i - 1] >= begin && times[i] < end) during.push_back(gap);
      }
    }
    std::printf("%zu cold adapters in %.0f ms beside %d streams\n",
                adapters_.size() - 2 * kStarts, Milliseconds(end - begin),
                streams_);
    for (const double q : {0.5, 0.99}) {
      const double was = Quantile(before, q);
      const double is = Quantile(during, q);
      std::printf("gap p%.0f: quiet %.2f ms, with loads %.2f ms, %.2f x\n",
                  q * 100, was, is, is / was);
    }
    std::fflush(stdout);
  }

  const int streams_;
  LoadedModel model_;
  PosixFs fs_;
  SystemClock clock_;
  AdapterRegistry registry_;
  std::string directory_;
  std::unique_ptr<AdapterStore> store_;
  std::vector<std::shared_ptr<const Adapter>> adapters_;
  std::unique_ptr<Engine> engine_;
  RequestId last_id_ = 0;
};

}  // namespace
}  // namespace descant

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "loads_bench MODEL.gguf [adapters [streams]]\n");
    return 64;
  }
  const int adapters = argc > 2 ? std::atoi(argv[2]) : 200;
  const int streams = argc > 3 ? std::atoi(argv[3]) : 4;
  descant::LoadsBench(argv[1], adapters, streams).Run();
  return 0;
}
