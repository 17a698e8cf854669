// The phases of a step on the CPU, by concern: cpu_runner_step.cc has their
// order, embedding, norms and head, cpu_runner_projections.cc linear modules,
// cpu_runner_lora.cc their LoRA by columns, cpu_runner_rows.cc the same by
// rows, cpu_runner_attention.cc everything between q, k, v and attended.
// Internal to them.
#ifndef DESCANT_RUNTIME_MODEL_CPU_RUNNER_PHASES_H_
#define DESCANT_RUNTIME_MODEL_CPU_RUNNER_PHASES_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/model/cpu_runner_step.h"

namespace descant {

// Rows times packed weights, and their bias.
struct Product {
  const kernels::bf16_t* a;
  int64_t lda;
  int32_t k_pairs;
  CpuLinear weights;
  QuantisedRows quantised;  // the same rows, for int8 weights
  // The block with which this worker begins the next product, or null.
  const std::byte* after = nullptr;
};

// One worker's way through the phases of a step.
class CpuStep {
 public:
  CpuStep(CpuStepState* state, int32_t worker)
      : state_(*state),
        config_(*state->config),
        kernels_(*state->kernels),
        lora_(*state->lora),
        shape_(state->weights->shape()),
        scratch_(state->scratch),
        plan_(state->plan),
        mine_(state->workers[worker]),
        worker_(worker),
        rows_(state->batch->rows()) {}

  void Run();

 private:
  const CpuLayerWeights& LayerWeights(int32_t layer) const {
    return state_.layers[layer];
  }
  // Waits for all workers.
  void Barrier() {
    if (state_.timer != nullptr) state_.timer->Arrive(worker_);
    state_.pool->Barrier();
    if (state_.timer != nullptr) state_.timer->Leave(worker_);
  }
  // What was done since the last call was `phase`.
  void End(CpuPhase phase) {
    if (state_.timer != nullptr) state_.timer->End(worker_, phase);
  }
  // The first of `items` that is in a worker's share.
  int32_t FirstOf(int32_t items, int32_t worker) const {
    return static_cast<int32_t>(int64_t{items} * worker / state_.pool->size());
  }
  // Calls body(item) for every item in [0, items), each on one worker, and
  // waits for all.
  template <typename Body>
  void ForEach(int32_t items, const Body& body);
  // The same over ranges of rows: body(begin, end).
  template <typename Body>
  void ForRows(int32_t rows, const Body& body);
  // The same over (block of columns, range of rows): body(block, begin, end)
  // with at most kGemmRows rows, a block's ranges one after the other.
  template <typename Body>
  void ForBlocks(int32_t blocks, int32_t rows, const Body& body);

  // cpu_runner_step.cc
  void Start();
  void Layer(int32_t layer);
  // `site`: whose input it is.
  void Norm(const CpuNorm& norm, LoraSite site);
  void NormRow(const CpuNorm& norm, LoraSite site, int64_t row);
  void Head();
  void Sample();
  void DropRow(int64_t row);

  // cpu_runner_quantise.cc: with int8 weights
  bool Int8() const { return state_.weights->type() == WeightType::kInt8; }
  // The norm of row `from` as row `to` of normed_int8; in bf16 too, unless
  // `normed` is null.
  void NormQuantised(const CpuNorm& norm, int64_t from, int64_t to,
                     kernels::bf16_t* normed);
  // Rows [rows_, width] of `a` as the kernels want them, in `shared` or in this
  // worker's own room. Nothing with other weights.
  QuantisedRows Quantise(const kernels::bf16_t* a, int64_t lda, int32_t width,
                         const QuantisedRows& shared);
  void MultiplyInt8(const Product& product, const std::byte* block,
                    const std::byte* next, int32_t begin, int32_t end, float* c,
                    int64_t ldc);

  // cpu_runner_attention.cc
  void RotateAndStore(int32_t layer);
  void RotateAndStoreRow(int32_t layer, int64_t row);
  // One head of q or k: norm (if any), rotation, rounding.
  void RotateHead(const float* x, const float* norm, const RopeTable& rope,
                  int32_t position, kernels::bf16_t* out);
  void Attend(int32_t layer);
  // If FetchesBeside: the products of q, k and v fetch, with what they have
  // left, the first of the keys and values that this worker attends to.
  void FetchKv(int32_t layer);
  kernels::AttentionItem AttentionOf(int32_t layer, const PlanAttention& plan,
                                     int32_t head);
  // Sums of a part of a split item; parts are counted from position 0.
  float* PartialOf(const PlanAttention& plan, int32_t head, int32_t part);
  void MergeParts(int32_t layer);

  // cpu_runner_lora.cc
  void Shrink(int32_t layer, LoraSite site, const kernels::bf16_t* a,
              int64_t lda);
  // C += h B for the segments' rows within [begin, end). REQUIRES: BeginSite.
  void Expand(int32_t slice, int32_t block, int32_t begin, int32_t end,
              float* c, int64_t ldc);
  bool HasLora(LoraSite site) const {
    return (plan_.site_mask >> static_cast<int32_t>(site) & 1u) != 0;
  }
  // The site's projection leaves its sums of all columns without LoRA, and a
  // phase by rows follows, which also does what comes after it.
  bool ByRows(LoraSite site) const {
    return HasLora(site) && !plan_.row_items.empty();
  }
  // Before the items of a site's projection.
  void BeginSite(int32_t layer, LoraSite site);
  // What an item of a site's projection (a block of columns of each slice)
  // reads of the adapters' B. `index`: layer * kLoraSites + site.
  void AddBlocks(int32_t index, int32_t item,
                 std::vector<kernels::FetchRange>* ranges) const;
  // If FetchesBeside: the products of the current site fetch, with what they
  // have left, this worker's part of A and its first blocks of B of the site
  // `index`, which is the next one.
  void FetchLater(int32_t index);
  // Likewise the blocks of `item`, this worker's next one of the current site,
  // before that.
  void FetchSoon(int32_t layer, LoraSite site, int32_t item);
  // Pairs of K of a site's A.
  int32_t ShrinkPairs(LoraSite site) const;
  // Its block of columns from `column` on.
  const std::byte* BlockOfA(const PackedSite& packed, int32_t k_pairs,
                            int32_t column) const {
    return packed.a +
           int64_t{column} * 2 * k_pairs * AdapterWeightBytes(state_.lora_type);
  }

  // cpu_runner_rows.cc: LoRA of a site ByRows, then
  void QkvRows(int32_t layer);  // rotation and KV cache
  void AddRows(int32_t layer, LoraSite site, const Product& product,
               const float* post_norm);  // residual, norm of the next site
  void MlpRows(int32_t layer);           // activation
  // For each of plan_.row_items: LoRA of its rows of `a`, added to their rows
  // of `c`, the site's slices at `columns`; then finish(row).
  template <typename Finish>
  void ForLoraRows(int32_t layer, LoraSite site, const kernels::bf16_t* a,
                   int64_t lda, float* c, int64_t ldc, const int32_t* columns,
                   const int32_t* widths, const Finish& finish);
  void LoraOfItem(const PlanSegment& segment, const PackedSite& packed,
                  int32_t k_pairs, const kernels::bf16_t* a, int64_t lda,
                  float* c, int64_t ldc, const int32_t* columns,
                  const int32_t* widths, const std::byte* next);

  // cpu_runner_projections.cc
  void ProjectQkv(int32_t layer);
  void ProjectMlp(int32_t layer);
  // Adds to the residual stream, behind `post_norm` unless that is null.
  void AddProjection(int32_t layer, LoraSite site, const Product& product,
                     const float* post_norm);
  void AddNormed(const float* post_norm);
  // The slice (q, k, v) of a block of qkv, and a slice's first block.
  int32_t QkvFirst(int32_t slice) const {
    return slice == 0 ? 0
                      : (shape_.q_width + (slice - 1) * shape_.kv_width) /
                            kernels::kColumnBlock;
  }
  int32_t QkvSlice(int32_t block) const {
    return block < QkvFirst(1) ? 0 : (block < QkvFirst(2) ? 1 : 2);
  }
  // C [end - begin, 32] = rows of product times one block, plus bias.
  void Multiply(const Product& product, int64_t block, int32_t begin,
                int32_t end, float* c, int64_t ldc);
  // The same for weights in groups.
  void MultiplyGroups(const Product& product, int64_t block, int32_t begin,
                      int32_t end, float* c, int64_t ldc);
  // The block of `weights` with which this worker begins, of `items` items of
  // `each` blocks.
  const std::byte* FirstBlock(const CpuLinear& weights, int32_t items,
                              int32_t each) const;

  CpuStepState& state_;
  const ModelConfig& config_;
  const kernels::CpuKernels& kernels_;
  const kernels::LoraKernels& lora_;
  const CpuShape& shape_;
  const CpuScratch& scratch_;
  const CpuPlan& plan_;
  CpuWorkerScratch& mine_;
  const int32_t worker_;
  const int32_t rows_;
  int32_t phase_ = 0;
  // What mine_.expanded holds.
  const std::byte* expanded_[2] = {nullptr, nullptr};
  // What this worker fetches while it multiplies.
  kernels::FetchStream beside_;
  bool last_chunk_ = false;  // of rows that meet the current block
  bool last_block_ = false;  // of this worker's share
};

template <typename Body>
void CpuStep::ForEach(int32_t items, const Body& body) {
  const int32_t workers = state_.pool->size();
  ItemCounter* counters = &state_.counters[phase_ % kCounterPhases * workers];
  // Nobody has used these since two barriers ago, nor will before the next.
  ItemCounter* later =
      &state_.counters[(phase_ + 2) % kCounterPhases * workers];
  later[worker_].taken.store(0, std::memory_order_relaxed);
  ++phase_;
  for (int32_t i = 0; i < workers; ++i) {
    const int32_t owner = (worker_ + i) % workers;
    const int32_t begin = FirstOf(items, owner);
    const int32_t end = FirstOf(items, owner + 1);
    for (;;) {
      const int32_t item =
          begin + counters[owner].taken.fetch_add(1, std::memory_order_relaxed);
      if (item >= end) break;
      body(item);
    }
  }
  Barrier();
}

template <typename Body>
void CpuStep::ForRows(int32_t rows, const Body& body) {
  const int32_t parts = std::min(rows, 4 * state_.pool->size());
  ForEach(parts, [&](int32_t part) {
    body(static_cast<int32_t>(int64_t{rows} * part / parts),
         static_cast<int32_t>(int64_t{rows} * (part + 1) / parts));
  });
}

template <typename Body>
void CpuStep::ForBlocks(int32_t blocks, int32_t rows, const Body& body) {
  const int32_t chunks = (rows + kGemmRows - 1) / kGemmRows;
  // Rows are split only where there are too few blocks for all workers.
  const int32_t parts = std::clamp(4 * state_.pool->size() / blocks, 1, chunks);
  const int32_t items = blocks * parts;
  const int32_t end = FirstOf(items, worker_ + 1);
  ForEach(items, [&](int32_t item) {
    last_block_ = item + 1 == end;
    const int32_t block = item / parts;
    const int32_t part = item % parts;
    const int32_t last = chunks * (part + 1) / parts;
    for (int32_t chunk = chunks * part / parts; chunk < last; ++chunk) {
      last_chunk_ = chunk + 1 == last;
      body(block, static_cast<int32_t>(int64_t{rows} * chunk / chunks),
           static_cast<int32_t>(int64_t{rows} * (chunk + 1) / chunks));
    }
  });
}

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_CPU_RUNNER_PHASES_H_
