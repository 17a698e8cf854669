#include "tests/bench/step/cost.h"

#include <algorithm>

namespace descant::bench {
namespace {

constexpr double kKvBytes = 2;  // bf16

struct Sizes {
  explicit Sizes(const ModelConfig& config)
      : layers(config.num_layers),
        hidden(config.hidden_size),
        q(1.0 * config.num_heads * config.head_dim),
        kv(1.0 * config.num_kv_heads * config.head_dim),
        mlp(config.intermediate_size),
        gates(config.gated_mlp ? 2 : 1),
        vocab(config.vocab_size) {}

  double layers, hidden, q, kv, mlp, gates, vocab;
};

// Keys and values that the batch's rows see.
struct Seen {
  double read = 0;   // positions, summed over sequences: each is read once
  double pairs = 0;  // of a row and a position
};

Seen SeenIn(const Batch& batch, int32_t window) {
  Seen seen;
  for (const BatchSequence& sequence : batch.sequences) {
    int32_t first = batch.positions[sequence.row_begin];
    const int32_t last = batch.positions[sequence.row_end - 1];
    for (int32_t row = sequence.row_begin; row < sequence.row_end; ++row) {
      const int32_t positions = batch.positions[row] + 1;
      seen.pairs += window > 0 ? std::min(positions, window) : positions;
    }
    first = window > 0 ? std::max(first - window + 1, 0) : 0;
    seen.read += last + 1 - first;
  }
  return seen;
}

class Builder {
 public:
  Builder(double rows, double outputs, double weight_bytes)
      : rows_(rows), outputs_(outputs), weight_bytes_(weight_bytes) {}

  void Linear(CpuPhase phase, double values) {
    cost_.phases[static_cast<int32_t>(phase)] +=
        {values * weight_bytes_, 2 * rows_ * values};
  }
  void Head(double values) {
    cost_.phases[static_cast<int32_t>(CpuPhase::kHead)] +=
        {values * weight_bytes_, 2 * outputs_ * values};
  }
  // One module in every layer.
  void Lora(CpuPhase phase, const AdapterCost& adapter, double segments,
            double layers, double in, double out) {
    const double a = layers * adapter.rank * in;
    const double b = layers * adapter.rank * out;
    cost_.phases[static_cast<int32_t>(CpuPhase::kShrink)] +=
        {segments * a * adapter.bytes_per_value, 2 * rows_ * a};
    cost_.phases[static_cast<int32_t>(phase)] +=
        {segments * b * adapter.bytes_per_value, 2 * rows_ * b};
  }
  void Attention(const ModelConfig& config, const Sizes& sizes,
                 const Batch& batch) {
    Work& work = cost_.phases[static_cast<int32_t>(CpuPhase::kAttention)];
    for (int32_t layer = 0; layer < config.num_layers; ++layer) {
      const Seen seen = SeenIn(batch, WindowOf(config, layer));
      work += {seen.read * 2 * sizes.kv * kKvBytes, 4 * sizes.q * seen.pairs};
    }
  }
  const StepCost& cost() const { return cost_; }

 private:
  const double rows_, outputs_, weight_bytes_;
  StepCost cost_;
};

}  // namespace

double BoundMs(const Work& work, const Bounds& bounds) {
  const double read = work.bytes / bounds.read;
  const double compute =
      bounds.compute > 0 ? work.operations / bounds.compute : 0;
  return 1e3 * std::max(read, compute);
}

Work StepCost::Total() const {
  Work total;
  for (const Work& work : phases) total += work;
  return total;
}

double BaseValues(const ModelConfig& config) {
  const Sizes s(config);
  return s.layers * s.hidden * (2 * s.q + 2 * s.kv + (s.gates + 1) * s.mlp) +
         s.vocab * s.hidden;
}

StepCost CostOf(const ModelConfig& config, double weight_bytes,
                const AdapterCost& adapters, const Batch& batch) {
  const Sizes s(config);
  Builder builder(batch.rows(), batch.outputs(), weight_bytes);
  builder.Linear(CpuPhase::kQkv, s.layers * s.hidden * (s.q + 2 * s.kv));
  builder.Linear(CpuPhase::kOut, s.layers * s.hidden * s.q);
  builder.Linear(CpuPhase::kGateUp, s.layers * s.hidden * s.gates * s.mlp);
  builder.Linear(CpuPhase::kDown, s.layers * s.hidden * s.mlp);
  if (batch.outputs() > 0) builder.Head(s.vocab * s.hidden);
  builder.Attention(config, s, batch);
  if (adapters.rank == 0) return builder.cost();
  const auto lora = [&](CpuPhase phase, double in, double out) {
    builder.Lora(phase, adapters, static_cast<double>(batch.segments.size()),
                 s.layers, in, out);
  };
  lora(CpuPhase::kQkv, s.hidden, s.q);
  lora(CpuPhase::kQkv, s.hidden, s.kv);
  if (!adapters.all_linear) return builder.cost();
  lora(CpuPhase::kQkv, s.hidden, s.kv);
  lora(CpuPhase::kOut, s.q, s.hidden);
  for (int gate = 0; gate < static_cast<int>(s.gates); ++gate) {
    lora(CpuPhase::kGateUp, s.hidden, s.mlp);
  }
  lora(CpuPhase::kDown, s.mlp, s.hidden);
  return builder.cost();
}

}  // namespace descant::bench
