#include "tests/testing/fake_runner.h"

#include <algorithm>
#include <map>
#include <stdexcept>

#include "absl/strings/str_cat.h"
#include "runtime/core/sequence.h"

namespace descant {
namespace {

constexpr uint64_t kSeed = 0x9e3779b97f4a7c15;

uint64_t Mix(uint64_t hash, uint64_t value) {
  hash ^= value + kSeed + (hash << 6) + (hash >> 2);
  hash *= 0xff51afd7ed558ccd;
  return hash ^ (hash >> 33);
}

uint64_t KeyOf(const Adapter* adapter) {
  if (adapter == nullptr) return 1;
  uint64_t key = 2;
  for (const char c : adapter->tenant) key = Mix(key, c);
  key = Mix(key, 256);
  for (const char c : adapter->digest) key = Mix(key, c);
  return key;
}

uint64_t MixEntry(uint64_t hash, int32_t token, int32_t position,
                  uint64_t adapter) {
  return Mix(Mix(Mix(hash, token), position), adapter);
}

constexpr int32_t kTorn = -7;  // no token

float ScoreOf(uint64_t hash) {
  return -0.01f * static_cast<float>(hash % 1000);
}

bool Contains(const std::vector<int32_t>& values, int32_t value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

struct FakeImage final : public AdapterImage {
  FakeImage(std::shared_ptr<const Adapter> a, uint64_t b)
      : adapter(std::move(a)), size(b) {}
  uint64_t bytes() const override { return size; }

  const std::shared_ptr<const Adapter> adapter;
  const uint64_t size;
};

}  // namespace

std::shared_ptr<const Adapter> MakeFakeAdapter(const std::string& name,
                                               const std::string& tenant) {
  auto adapter = std::make_shared<Adapter>();
  adapter->name = name;
  adapter->tenant = tenant;
  adapter->digest = absl::StrCat("sha256:", name);
  return adapter;
}

FakeRunner::FakeRunner(const FakeRunnerOptions& options)
    : options_(options),
      cache_(static_cast<size_t>(options.num_blocks) * kBlockSize),
      poisoned_by_(options.num_blocks, 0),
      torn_by_(options.num_blocks, 0),
      sound_(options.num_blocks, false),
      last_token_(options.limits.max_sequences, -1),
      slots_(options.limits.max_slots) {}

void FakeRunner::Violation(const Batch& batch, const std::string& what) {
  MutexLock lock(&mutex_);
  violations_.push_back(absl::StrCat("step ", batch.step, ": ", what));
}

uint64_t FakeRunner::AdapterKey(int32_t slot) const {
  MutexLock lock(&mutex_);
  return KeyOf(slot == kNoSlot ? nullptr : slots_[slot].get());
}

// The token behind `position`. The first answer is the hash's own.
int32_t FakeRunner::Choose(
    uint64_t hash, int32_t choice, int32_t position,
    const std::function<int32_t(int32_t)>& token_at) const {
  if (choice > 0) hash = Mix(hash, choice);
  if (static_cast<int32_t>((hash >> 40) % 100) < options_.repeats) {
    const int32_t last = token_at(position);
    for (int32_t i = position - 1; i >= 0; --i) {
      if (token_at(i) == last) return token_at(i + 1);
    }
  }
  return static_cast<int32_t>(hash % options_.vocab_size);
}

ExpectedAnswer FakeRunner::Alone(const Request& request,
                                 const std::vector<int32_t>& eos_token_ids,
                                 int32_t max_length) const {
  ExpectedAnswer answer;
  const uint64_t adapter = KeyOf(request.adapter.get());
  const SamplingParams& sampling = request.sampling;
  uint64_t hash = kSeed;
  int32_t position = 0;
  for (const int32_t token : request.prompt) {
    if (position > 0) answer.prompt_logprobs.push_back(ScoreOf(hash));
    hash = MixEntry(hash, token, position++, adapter);
  }
  const auto ends = [&](int32_t token) {
    return (!sampling.ignore_eos && Contains(eos_token_ids, token)) ||
           Contains(sampling.stop_token_ids, token);
  };
  while (true) {
    int32_t generated = static_cast<int32_t>(answer.tokens.size());
    const int32_t prompt = static_cast<int32_t>(request.prompt.size());
    int32_t token = Choose(hash, sampling.choice, position - 1, [&](int32_t i) {
      return i < prompt ? request.prompt[i] : answer.tokens[i - prompt];
    });
    while (generated < sampling.min_tokens && ends(token)) {
      token = (token + 1) % options_.vocab_size;
    }
    answer.tokens.push_back(token);
    ++generated;
    if (!sampling.ignore_eos && Contains(eos_token_ids, token)) {
      answer.reason = FinishReason::kEndOfSequence;
    } else if (Contains(sampling.stop_token_ids, token)) {
      answer.reason = FinishReason::kStopToken;
    } else if (generated >= sampling.max_tokens || position + 1 >= max_length) {
      answer.reason = FinishReason::kLength;
    }
    if (answer.reason != FinishReason::kNone) return answer;
    hash = MixEntry(hash, token, position++, adapter);
  }
}

void FakeRunner::CheckLayout(const Batch& batch) {
  const BatchLimits& limits = options_.limits;
  if (batch.rows() > limits.max_rows || batch.outputs() > limits.max_outputs ||
      static_cast<int32_t>(batch.sequences.size()) > limits.max_sequences) {
    Violation(batch, "over the limits");
  }
  int32_t row = 0;
  int32_t output = 0;
  std::set<int32_t> state_slots;
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    const BatchSequence& s = batch.sequences[i];
    if (s.row_begin != row || s.row_end <= s.row_begin) {
      Violation(batch, "rows have gaps");
    }
    if (s.output_begin != output) Violation(batch, "outputs have gaps");
    if (i > 0 && s.slot < batch.sequences[i - 1].slot) {
      Violation(batch, "not in the order of slots");
    }
    if (!state_slots.insert(s.state_slot).second || s.state_slot < 0 ||
        s.state_slot >= limits.max_sequences) {
      Violation(batch, "bad state slot");
    }
    for (int32_t r = s.row_begin; r < s.row_end; ++r) {
      if (batch.positions[r] != s.computed_length + r - s.row_begin) {
        Violation(batch, "positions do not continue the sequence");
      }
    }
    for (int32_t o = s.output_begin; o < s.output_end; ++o) {
      if (batch.output_rows[o] != s.row_end - (s.output_end - o)) {
        Violation(batch, "wrong output row");
      }
    }
    row = s.row_end;
    output = s.output_end;
  }
  if (row != batch.rows() || output != batch.outputs()) {
    Violation(batch, "sequences do not cover the batch");
  }
}

// Every row (and output) of a slot lies in its one segment, no other does.
void FakeRunner::CheckSegments(const Batch& batch) {
  std::vector<int32_t> by_row(batch.rows(), kNoSlot);
  std::vector<int32_t> by_output(batch.outputs(), kNoSlot);
  std::set<int32_t> seen;
  for (const Segment& segment : batch.segments) {
    if (!seen.insert(segment.slot).second) {
      Violation(batch, "a slot has two segments");
    }
    for (int32_t r = segment.row_begin; r < segment.row_end; ++r) {
      by_row[r] = segment.slot;
    }
    if (AdapterKey(segment.slot) == KeyOf(nullptr)) {
      Violation(batch, "slot not loaded");
    }
  }
  for (const Segment& segment : batch.output_segments) {
    for (int32_t o = segment.row_begin; o < segment.row_end; ++o) {
      by_output[o] = segment.slot;
    }
  }
  for (const BatchSequence& s : batch.sequences) {
    for (int32_t r = s.row_begin; r < s.row_end; ++r) {
      if (by_row[r] != s.slot) Violation(batch, "row in the wrong segment");
    }
    for (int32_t o = s.output_begin; o < s.output_end; ++o) {
      if (by_output[o] != s.slot) {
        Violation(batch, "output in the wrong segment");
      }
    }
  }
}

// A block may be in two tables only where they are under the same weights and
// neither sequence writes to it.
void FakeRunner::CheckBlocks(const Batch& batch) {
  struct Use {
    int32_t slot = kNoSlot;
    bool written = false;
  };
  std::map<int32_t, Use> uses;
  for (const BatchSequence& s : batch.sequences) {
    if (s.block_count > options_.limits.max_blocks_per_sequence ||
        s.block_count <
            BlocksFor(s.computed_length + s.row_end - s.row_begin)) {
      Violation(batch, "block table of a wrong length");
    }
    for (int32_t i = 0; i < s.block_count; ++i) {
      const int32_t block = batch.block_tables[s.block_begin + i];
      const bool written = i >= s.computed_length / kBlockSize;
      const auto [use, first] = uses.insert({block, {s.slot, written}});
      shared_entries_ += !first;
      if (!first &&
          (use->second.slot != s.slot || use->second.written || written)) {
        Violation(batch, "a block is shared");
      }
      // Its own sequence may be in a step that was scheduled before.
      if (poisoned_by_[block] != 0 && poisoned_by_[block] != s.id) {
        Violation(batch, "a poisoned block is used");
      }
      if (torn_by_[block] != 0 && torn_by_[block] != s.id) {
        Violation(batch, "a block of a failed step is used");
      }
    }
  }
}

FakeRunner::Entry& FakeRunner::EntryAt(const Batch& batch,
                                       const BatchSequence& sequence,
                                       int32_t position) {
  const int32_t block =
      batch.block_tables[sequence.block_begin + position / kBlockSize];
  return cache_[static_cast<size_t>(block) * kBlockSize +
                position % kBlockSize];
}

void FakeRunner::Poison(const Batch& batch, const BatchSequence& sequence) {
  for (int32_t i = 0; i < sequence.block_count; ++i) {
    const int32_t block = batch.block_tables[sequence.block_begin + i];
    if (!sound_[block]) poisoned_by_[block] = sequence.id;
  }
}

// What a failed step wrote is anything, until it is written again.
void FakeRunner::Tear(const Batch& batch, const BatchSequence& sequence) {
  for (int32_t r = sequence.row_begin; r < sequence.row_end; ++r) {
    const int32_t position = batch.positions[r];
    EntryAt(batch, sequence, position) = {kTorn, kTorn, 7};
    torn_by_[batch.block_tables[sequence.block_begin + position / kBlockSize]] =
        sequence.id;
  }
}

bool FakeRunner::Fails(const Batch& batch) const {
  return failing_steps.count(batch.step) > 0 ||
         std::any_of(batch.sequences.begin(), batch.sequences.end(),
                     [this](const BatchSequence& s) {
                       return failing_requests.count(s.id) > 0;
                     });
}

int32_t FakeRunner::RowToken(const Batch& batch, const BatchSequence& sequence,
                             int32_t row) const {
  const int32_t token = batch.tokens[row];
  return token == kTokenFromLastStep ? last_token_[sequence.state_slot] : token;
}

void FakeRunner::Compute(const Batch& batch, const BatchSequence& sequence) {
  const uint64_t adapter = AdapterKey(sequence.slot);
  int32_t position = sequence.computed_length;
  for (int32_t r = sequence.row_begin; r < sequence.row_end; ++r) {
    EntryAt(batch, sequence, position) = {RowToken(batch, sequence, r),
                                          position, adapter};
    const int32_t block =
        batch.block_tables[sequence.block_begin + position / kBlockSize];
    if (position % kBlockSize == 0) sound_[block] = false;
    if (torn_by_[block] == sequence.id) torn_by_[block] = 0;
    ++position;
  }
  StepOutput::PerSequence& result = output_.sequences.emplace_back();
  result.id = sequence.id;
  result.state_slot = sequence.state_slot;
  result.begin = static_cast<int32_t>(output_.sampled.size());
  result.end = result.begin;
  if (sequence.output == OutputKind::kNone) return;
  const int32_t outputs = sequence.output_end - sequence.output_begin;
  const int32_t drafts = std::max(0, outputs - sequence.prompt_outputs - 1);
  draft_rows_ += drafts;
  if (faulty_requests.count(sequence.id) > 0) {
    wrong_drafts_ += drafts;
    if (drafts > 0) return;  // shows again without them
    faulty_requests.erase(sequence.id);
    result.numeric_fault = true;
    Poison(batch, sequence);
  }
  const bool fault = result.numeric_fault;
  const int32_t known = position - drafts - 1;  // drafts aren't history
  uint64_t hash = kSeed;
  int32_t i = 0;
  for (bool more = true; i < position && more; ++i) {
    const Entry& e = EntryAt(batch, sequence, i);
    // The step behind a failed one, if it was in flight, reads what that tore;
    // no live sequence may, or its tokens are wrong.
    if (i < known && e.token != kTorn && sequence.history[i] != e.token) {
      Violation(batch, "the history is not what was computed");
    }
    hash = MixEntry(hash, e.token, e.position, e.adapter);
    if (i < position - outputs) continue;
    if (i < position - outputs + sequence.prompt_outputs) {
      Score(sequence, i, hash);
      continue;
    }
    const int32_t token =
        Choose(hash, sequence.sampling->choice + sequence.choice, i,
               [&](int32_t at) { return EntryAt(batch, sequence, at).token; });
    Sample(sequence, token);
    more = i + 1 == position || output_.sampled.back().token ==
                                    EntryAt(batch, sequence, i + 1).token;
  }
  wrong_drafts_ += position - i;
  for (int32_t block = 0; block < i / kBlockSize && !fault; ++block) {
    sound_[batch.block_tables[sequence.block_begin + block]] = true;
  }
  output_.sequences.back().end = static_cast<int32_t>(output_.sampled.size());
}

void FakeRunner::AddTop(int32_t count) {
  SampledToken& sampled = output_.sampled.back();
  sampled.top_begin = static_cast<int32_t>(output_.top.size());
  for (int32_t i = 0; i < count; ++i) {
    output_.top.push_back(
        {(sampled.token + i) % options_.vocab_size, sampled.logprob - i});
  }
  sampled.top_end = static_cast<int32_t>(output_.top.size());
}

// The prompt's token behind `position`.
void FakeRunner::Score(const BatchSequence& sequence, int32_t position,
                       uint64_t hash) {
  SampledToken& scored = output_.sampled.emplace_back();
  scored.token = sequence.history[position + 1];
  scored.logprob = ScoreOf(hash);
  AddTop(sequence.sampling->prompt_logprobs);
}

void FakeRunner::Sample(const BatchSequence& sequence, int32_t token) {
  const int32_t done = static_cast<int32_t>(output_.sampled.size()) -
                       output_.sequences.back().begin - sequence.prompt_outputs;
  SampledToken& sampled = output_.sampled.emplace_back();
  sampled.token = token;
  while (sequence.banned != nullptr &&
         sequence.generated + done < sequence.sampling->min_tokens &&
         Contains(*sequence.banned, sampled.token)) {
    sampled.token = (sampled.token + 1) % options_.vocab_size;
  }
  sampled.logprob = -0.5f;
  last_token_[sequence.state_slot] = sampled.token;
  AddTop(sequence.sampling->top_logprobs);
}

absl::Status FakeRunner::Launch(const Batch& batch) {
  {
    MutexLock lock(&mutex_);
    for (const Segment& segment : batch.segments) {
      slots_in_use_.insert(segment.slot);
    }
  }
  if (on_launch) on_launch(batch);
  if (in_flight_) Violation(batch, "launched with a step in flight");
  CheckLayout(batch);
  CheckSegments(batch);
  CheckBlocks(batch);
  CheckMerged(batch);
  output_.Clear();
  output_.step = batch.step;
  fail_ = Fails(batch);
  for (const BatchSequence& sequence : batch.sequences) {
    Compute(batch, sequence);
    if (fail_) Tear(batch, sequence);
  }
  for (const BatchSequence& sequence : batch.sequences) {
    if (throwing_requests.count(sequence.id) == 0) continue;
    for (const BatchSequence& torn : batch.sequences) Tear(batch, torn);
    throw std::runtime_error("injected");
  }
  in_flight_ = true;
  return absl::OkStatus();
}

absl::StatusOr<const StepOutput*> FakeRunner::Collect() {
  in_flight_ = false;
  {
    MutexLock lock(&mutex_);
    slots_in_use_.clear();
  }
  if (fail_) return absl::InternalError("injected");
  return &output_;
}

absl::StatusOr<std::shared_ptr<const AdapterImage>> FakeRunner::PackAdapter(
    const std::shared_ptr<const Adapter>& adapter) const {
  if (on_pack) on_pack(*adapter);
  return std::shared_ptr<const AdapterImage>(
      std::make_shared<FakeImage>(adapter, options_.adapter_bytes));
}

absl::Status FakeRunner::LoadImage(
    int32_t slot, const std::shared_ptr<const AdapterImage>& image) {
  const std::shared_ptr<const Adapter>& adapter =
      static_cast<const FakeImage&>(*image).adapter;
  if (on_load) on_load(*adapter);
  MutexLock lock(&mutex_);
  slots_[slot] = nullptr;
  if (slots_in_use_.count(slot) > 0) {
    violations_.push_back("a slot was loaded that the step uses");
  }
  if (broken_digests.count(adapter->digest) > 0) {
    return absl::InternalError("injected");
  }
  const auto loaded = std::count_if(slots_.begin(), slots_.end(),
                                    [](const auto& a) { return a != nullptr; });
  if (loaded >= options_.arena_adapters) {
    return absl::ResourceExhaustedError("the arena is full");
  }
  slots_[slot] = adapter;
  return absl::OkStatus();
}

AdapterMemory FakeRunner::adapter_memory() const {
  MutexLock lock(&mutex_);
  AdapterMemory memory;
  for (const auto& adapter : slots_) {
    memory.used += adapter != nullptr ? options_.adapter_bytes : 0;
  }
  memory.capacity = options_.arena_adapters * options_.adapter_bytes;
  return memory;
}

void FakeRunner::UnloadAdapter(int32_t slot) {
  MutexLock lock(&mutex_);
  slots_[slot] = nullptr;
  if (slots_in_use_.count(slot) > 0) {
    violations_.push_back("a slot was unloaded that the step uses");
  }
}

void FakeRunner::ClearBlocks(absl::Span<const int32_t> blocks) {
  for (const int32_t block : blocks) {
    poisoned_by_[block] = 0;
    torn_by_[block] = 0;
    sound_[block] = false;
    std::fill_n(cache_.begin() + static_cast<ptrdiff_t>(block) * kBlockSize,
                kBlockSize, Entry{});
  }
}

}  // namespace descant
