// A layer's modules with their adapters, and what shrink and expand have to
// make of them, in double.
#ifndef DESCANT_TESTS_RUNTIME_KERNELS_CUDA_LORA_LAYER_H_
#define DESCANT_TESTS_RUNTIME_KERNELS_CUDA_LORA_LAYER_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <type_traits>
#include <vector>

#include "runtime/kernels/cuda/launches.cuh"
#include "tests/runtime/kernels/cuda/lora_tiles.h"
#include "tests/testing/cuda_emulation/guarded_array.h"

namespace descant::kernels::cuda_emulated {

using cuda_emulation::GuardedArray;
using Slices = std::array<int32_t, kLoraMaxSlices>;

// Half an ulp.
template <typename Half>
constexpr double kRounding = std::is_same_v<Half, BFloat16> ? 0x1p-8 : 0x1p-11;
// Of a sum in fp32 that has some thousand terms, in any order.
constexpr double kSumError = 0x1p-18;

struct Case {
  int32_t in = 72;
  int32_t splits = 2;
  Slices columns = {40, 24, 8};
  std::vector<Slices> ranks;  // of each adapter; 0: leaves the slice alone
  std::vector<int32_t> row_slots;
  bool has_weights = true;
  int32_t extra_tiles = 1;
  int32_t gap = 8;  // between rows of x and of y
};

inline int32_t Padded(int32_t rank) {
  return (rank + kLoraRankPad - 1) / kLoraRankPad * kLoraRankPad;
}

template <typename T>
bool SameBits(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

template <typename Half>
GuardedArray<Half> RandomHalves(size_t count, std::mt19937* random) {
  std::uniform_real_distribution<float> uniform(-1, 1);
  GuardedArray<Half> values(count);
  for (Half& value : values) value = FromFloat<Half>(uniform(*random));
  return values;
}

template <typename Half>
struct Adapter {
  GuardedArray<Half> a;
  std::array<GuardedArray<Half>, kLoraMaxSlices> b;
  GuardedArray<float> scale;
  LoraSlot slot;
};

// Rows of A and columns of B beyond the rank are zero, up to the padded one.
template <typename Half>
Adapter<Half> MakeAdapter(const Slices& ranks, const Case& c,
                          std::mt19937* random) {
  Adapter<Half> adapter;
  for (size_t s = 0; s < ranks.size(); ++s) {
    adapter.slot.slices[s].rank = Padded(ranks[s]);
    adapter.slot.slices[s].rank_begin = adapter.slot.rank;
    adapter.slot.rank += Padded(ranks[s]);
  }
  const auto in = static_cast<size_t>(c.in);
  const auto stacked = static_cast<size_t>(adapter.slot.rank);
  adapter.a = RandomHalves<Half>(stacked * in, random);
  adapter.scale = GuardedArray<float>(stacked);
  for (size_t s = 0; s < ranks.size(); ++s) {
    LoraSlice& slice = adapter.slot.slices[s];
    const auto padded = static_cast<size_t>(slice.rank);
    const auto columns = static_cast<size_t>(c.columns[s]);
    adapter.b[s] = RandomHalves<Half>(columns * padded, random);
    for (size_t r = 0; r < padded; ++r) {
      const size_t row = static_cast<size_t>(slice.rank_begin) + r;
      adapter.scale[row] = 0.25f * static_cast<float>(1 + row % 5);
      if (r < static_cast<size_t>(ranks[s])) continue;
      std::fill_n(adapter.a.data() + row * in, in, FromFloat<Half>(0));
      for (size_t n = 0; n < columns; ++n) {
        adapter.b[s][n * padded + r] = FromFloat<Half>(0);
      }
    }
    slice.b = adapter.b[s].data();
  }
  adapter.slot.a = adapter.a.data();
  adapter.slot.scale = adapter.scale.data();
  return adapter;
}

// A case's arrays, each of the size that its kernel may touch.
template <typename Half>
class Layer {
 public:
  explicit Layer(const Case& c, uint32_t seed = 1)
      : c_(c),
        random_(seed),
        rows_(static_cast<int32_t>(c.row_slots.size())),
        x_stride_(c.in + c.gap),
        tiles_(MakeHostTiles(
            c.row_slots, static_cast<int32_t>(c.ranks.size()),
            MaxLoraTiles(rows_, static_cast<int32_t>(c.ranks.size())) +
                c.extra_tiles)) {
    for (const Slices& ranks : c.ranks) {
      adapters_.push_back(MakeAdapter<Half>(ranks, c, &random_));
      plane_stride_ = std::max(plane_stride_, adapters_.back().slot.rank);
    }
    // What would be the slot of rows without one has weights nowhere.
    slots_ = GuardedArray<LoraSlot>(adapters_.size() + 1);
    slots_[0] = {.rank = kLoraRankPad};
    for (LoraSlice& slice : slots_[0].slices) slice.rank = kLoraRankPad;
    for (size_t i = 0; i < adapters_.size(); ++i) {
      slots_[i + 1] = adapters_[i].slot;
    }
    // NaNs lie between rows of x, and at last nothing.
    x_ =
        GuardedArray<Half>(static_cast<size_t>(x_stride_ * (rows_ - 1) + c.in));
    weights_ = GuardedArray<float>(static_cast<size_t>(rows_));
    for (int32_t row = 0; row < rows_; ++row) {
      const GuardedArray<Half> values =
          RandomHalves<Half>(static_cast<size_t>(c.in), &random_);
      std::copy_n(values.data(), c.in, x_.data() + row * x_stride_);
      weights_[static_cast<size_t>(row)] =
          0.5f + 0.25f * static_cast<float>(row % 7);
    }
    planes_ =
        GuardedArray<float>(static_cast<size_t>(c.splits) * tiles_.rows.size() *
                            static_cast<size_t>(plane_stride_));
    for (size_t s = 0; s < c.columns.size(); ++s) {
      slice_begin_[s] = y_stride_ + 8;
      y_stride_ += 8 + c.columns[s];
    }
    y_stride_ += c.gap - 8;
    y_ = RandomHalves<Half>(static_cast<size_t>(y_stride_ * rows_), &random_);
    y_before_.assign(y_.begin(), y_.end());
  }

  GuardedArray<Half>& x() { return x_; }
  int64_t x_stride() const { return x_stride_; }
  const GuardedArray<Half>& y() const { return y_; }
  int64_t y_stride() const { return y_stride_; }
  std::vector<Adapter<Half>>& adapters() { return adapters_; }
  HostTiles& tiles() { return tiles_; }
  GuardedArray<float>& planes() { return planes_; }
  int32_t plane_stride() const { return plane_stride_; }
  int32_t slice_begin(size_t s) const { return slice_begin_[s]; }

  void RunShrink() {
    ShrinkArgs args;
    args.x = x_.data();
    args.x_stride = x_stride_;
    args.in = c_.in;
    args.slots = slots_.data() + 1;
    args.tiles = tiles_.Args();
    args.planes = planes_.data();
    args.plane_stride = plane_stride_;
    args.splits = c_.splits;
    const absl::Status status = Shrink<Half>(args);
    ASSERT_TRUE(status.ok()) << status;
  }

  void RunExpand() {
    ExpandArgs args;
    args.planes = planes_.data();
    args.plane_stride = plane_stride_;
    args.splits = c_.splits;
    args.slots = slots_.data() + 1;
    args.tiles = tiles_.Args();
    args.row_weights = c_.has_weights ? weights_.data() : nullptr;
    args.y = y_.data();
    args.y_stride = y_stride_;
    // Columns behind the last slice mean nothing.
    for (int32_t& columns : args.slice_columns) columns = 24;
    for (int32_t s = 0; s < kLoraMaxSlices; ++s) {
      const auto i = static_cast<size_t>(s);
      if (c_.columns[i] == 0 && s > 0) continue;
      args.slices = s + 1;
      for (size_t j = 0; j <= i; ++j) {
        args.slice_begin[j] = slice_begin_[j];
        args.slice_columns[j] = c_.columns[j];
      }
    }
    const absl::Status status = Expand<Half>(args);
    ASSERT_TRUE(status.ok()) << status;
  }

  void FillPlanes() {
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (float& value : planes_) value = uniform(random_);
  }

  // Every split of every row that has an adapter; nothing else is written.
  void ExpectPlanes() {
    const int32_t span = ShrinkSpan(c_.in, c_.splits);
    for (int32_t split = 0; split < c_.splits; ++split) {
      for (size_t i = 0; i < tiles_.rows.size(); ++i) {
        const LoraSlot slot = SlotOfPlace(i);
        for (int32_t r = 0; r < plane_stride_; ++r) {
          const float got = *Plane(split, i, r);
          if (r >= slot.rank) {
            ASSERT_TRUE(SameBits(~uint32_t{0}, std::bit_cast<uint32_t>(got)))
                << "written: split " << split << ", row " << i << ", " << r;
            continue;
          }
          const auto [sum, magnitude] =
              Dot(&x_[static_cast<size_t>(tiles_.rows[i] * x_stride_)],
                  static_cast<const Half*>(slot.a) +
                      static_cast<int64_t>(r) * c_.in,
                  std::min(split * span, c_.in),
                  std::min((split + 1) * span, c_.in));
          ASSERT_NEAR(got, sum, magnitude * kSumError)
              << "split " << split << ", row " << i << ", rank " << r;
        }
      }
    }
  }

  // From the planes; everything else is as before.
  void ExpectOutput() {
    std::vector<bool> is_done(y_.size());
    for (size_t i = 0; i < tiles_.rows.size(); ++i) {
      const LoraSlot slot = SlotOfPlace(i);
      for (size_t s = 0; s < c_.columns.size() && slot.rank > 0; ++s) {
        const LoraSlice& slice = slot.slices[s];
        std::vector<Half> hidden;
        for (int32_t r = 0; r < slice.rank; ++r) {
          float sum = 0;
          for (int32_t split = 0; split < c_.splits; ++split) {
            sum += *Plane(split, i, slice.rank_begin + r);
          }
          hidden.push_back(
              FromFloat<Half>(slot.scale[slice.rank_begin + r] * sum));
        }
        for (int32_t n = 0; n < c_.columns[s] && slice.rank > 0; ++n) {
          const auto [sum, magnitude] = Dot(
              hidden.data(), static_cast<const Half*>(slice.b) + n * slice.rank,
              0, slice.rank);
          ExpectElement(i, s, n, sum, magnitude * kSumError, &is_done);
        }
      }
    }
    for (size_t i = 0; i < y_.size(); ++i) {
      ASSERT_TRUE(is_done[i] || SameBits(y_[i], y_before_[i])) << i;
    }
  }

  // From x, with what rounding the hidden values may change.
  void ExpectWhole() {
    std::vector<bool> is_done(y_.size());
    for (size_t i = 0; i < tiles_.rows.size(); ++i) {
      const LoraSlot slot = SlotOfPlace(i);
      std::vector<double> hidden, hidden_error;
      for (int32_t r = 0; r < slot.rank; ++r) {
        const auto [sum, magnitude] = Dot(
            &x_[static_cast<size_t>(tiles_.rows[i] * x_stride_)],
            static_cast<const Half*>(slot.a) + static_cast<int64_t>(r) * c_.in,
            0, c_.in);
        hidden.push_back(slot.scale[r] * sum);
        hidden_error.push_back(std::abs(hidden.back()) * kRounding<Half> *
                                   1.001 +
                               slot.scale[r] * magnitude * kSumError);
      }
      for (size_t s = 0; s < c_.columns.size() && slot.rank > 0; ++s) {
        const LoraSlice& slice = slot.slices[s];
        for (int32_t n = 0; n < c_.columns[s] && slice.rank > 0; ++n) {
          double sum = 0, error = 0;
          for (int32_t r = 0; r < slice.rank; ++r) {
            const double b =
                ToFloat(static_cast<const Half*>(slice.b)[n * slice.rank + r]);
            const auto at = static_cast<size_t>(slice.rank_begin + r);
            sum += hidden[at] * b;
            error += (hidden_error[at] + std::abs(hidden[at]) * kSumError) *
                     std::abs(b);
          }
          ExpectElement(i, s, n, sum, error, &is_done);
        }
      }
    }
    for (size_t i = 0; i < y_.size(); ++i) {
      ASSERT_TRUE(is_done[i] || SameBits(y_[i], y_before_[i])) << i;
    }
  }

  float* Plane(int32_t split, size_t place, int32_t rank) {
    return &planes_[(static_cast<size_t>(split) * tiles_.rows.size() + place) *
                        static_cast<size_t>(plane_stride_) +
                    static_cast<size_t>(rank)];
  }

 private:
  struct Sum {
    double value = 0;
    double magnitude = 0;
  };
  static Sum Dot(const Half* a, const Half* b, int32_t begin, int32_t end) {
    Sum sum;
    for (int32_t k = begin; k < end; ++k) {
      const double product = double{ToFloat(a[k])} * ToFloat(b[k]);
      sum.value += product;
      sum.magnitude += std::abs(product);
    }
    return sum;
  }

  // Nothing, for places of no row.
  LoraSlot SlotOfPlace(size_t place) const {
    if (tiles_.rows[place] < 0) return {};
    return adapters_[static_cast<size_t>(tiles_.slots[place / kLoraTileRows])]
        .slot;
  }

  void ExpectElement(size_t place, size_t s, int32_t column, double sum,
                     double error, std::vector<bool>* is_done) {
    const auto row = static_cast<size_t>(tiles_.rows[place]);
    const size_t at = row * static_cast<size_t>(y_stride_) +
                      static_cast<size_t>(slice_begin_[s] + column);
    const double weight = c_.has_weights ? weights_[row] : 1;
    const double before = ToFloat(y_before_[at]);
    const double want = before + weight * sum;
    ASSERT_NEAR(ToFloat(y_[at]), want,
                (std::abs(want) + weight * error) * kRounding<Half> +
                    weight * error + std::abs(before) * kSumError)
        << "row " << row << ", slice " << s << ", column " << column;
    ASSERT_FALSE((*is_done)[at]);
    (*is_done)[at] = true;
  }

  const Case c_;
  std::mt19937 random_;
  const int32_t rows_;
  const int64_t x_stride_;
  int64_t y_stride_ = 0;
  int32_t plane_stride_ = 8;
  HostTiles tiles_;
  std::vector<Adapter<Half>> adapters_;
  GuardedArray<LoraSlot> slots_;
  GuardedArray<Half> x_, y_;
  GuardedArray<float> weights_, planes_;
  std::vector<Half> y_before_;
  std::array<int32_t, kLoraMaxSlices> slice_begin_ = {};
};

}  // namespace descant::kernels::cuda_emulated

#endif  // DESCANT_TESTS_RUNTIME_KERNELS_CUDA_LORA_LAYER_H_
