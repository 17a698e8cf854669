#include "tests/sim/simulation.h"

namespace descant {

void Simulation::MakeClients() {
  const int32_t tenants = Pick(1, 3);
  // By tenant. One of them may have many, each used little.
  std::vector<std::vector<std::shared_ptr<const Adapter>>> adapters(tenants);
  for (int32_t tenant = 0; tenant < tenants; ++tenant) {
    const int32_t count = Chance(25) ? Pick(8, 16) : Pick(1, 5);
    for (int i = 0; i < count; ++i) {
      adapters[tenant].push_back(
          MakeFakeAdapter(absl::StrCat("a", i), absl::StrCat("t", tenant + 1)));
      all_adapters_.push_back(adapters[tenant].back());
      if (faults_ && Chance(10)) {
        runner_->broken_digests.insert(adapters[tenant].back()->digest);
      }
    }
  }
  for (int32_t tenant = 1; tenant <= tenants; ++tenant) {
    Limits& limits = limits_[absl::StrCat("t", tenant)];
    if (PickLater(0, 2) == 0) limits.slots.most = PickLater(1, 3);
    if (PickLater(0, 2) == 0) limits.slots.share = PickLater(1, 2);
    if (PickLater(0, 2) == 0) limits.cached_blocks = PickLater(1, 6);
  }
  std::vector<int32_t> common(300);
  for (int32_t& token : common) token = Pick(0, 63);
  const int32_t count = Pick(3, 24);
  for (int i = 1; i <= count; ++i) {
    Client client;
    Request& request = client.request;
    request.id = i;
    const int32_t tenant = Pick(0, tenants - 1);
    request.tenant = absl::StrCat("t", tenant + 1);
    request.tenant_weight = 1 + 3 * tenant;
    request.tenant_slots = limits_[request.tenant].slots;
    request.tenant_cached_blocks = limits_[request.tenant].cached_blocks;
    request.priority = Chance(20) ? Pick(-1, 1) : 0;
    const int32_t longest =
        std::min(scheduler_->max_length() - 1, Chance(20) ? 300 : 60);
    const int32_t prompt = Pick(1, longest);
    for (int j = 0; j < prompt; ++j) request.prompt.push_back(Pick(0, 63));
    // Many begin alike, also those of other tenants and adapters.
    if (Chance(60)) {
      std::copy_n(common.begin(), Pick(0, prompt), request.prompt.begin());
    }
    request.bypass_prefix_cache = Chance(10);
    if (PickForDrafts(0, 4) == 0) {
      request.max_draft_tokens = PickForDrafts(0, 3);
    }
    request.sampling.max_tokens = Chance(10) ? 500 : Pick(1, 50);
    request.sampling.ignore_eos = Chance(60);
    if (Chance(10)) request.sampling.stop_token_ids = {Pick(0, 63)};
    if (Chance(15)) {
      request.sampling.min_tokens = Pick(1, request.sampling.max_tokens);
    }
    if (Chance(30)) request.sampling.n = Pick(2, 5);
    if (Chance(20)) request.sampling.prompt_logprobs = Pick(0, 2);
    if (Chance(70)) {
      const auto& own = adapters[tenant];
      request.adapter = own[Pick(0, static_cast<int32_t>(own.size()) - 1)];
    }
    client.arrives = Chance(50) ? 0 : Pick(0, 150);
    if (Chance(12)) client.aborts = client.arrives + Pick(0, 80);
    if (Chance(12)) {
      request.deadline =
          now_ + std::chrono::milliseconds(client.arrives + Pick(0, 100));
    }
    for (int j = 0; j < request.sampling.n; ++j) {
      Request one = request;
      one.sampling.choice = j;
      client.choices.emplace_back().alone =
          runner_->Alone(one, kEos, scheduler_->max_length());
    }
    clients_.emplace(request.id, std::move(client));
  }
}

void Simulation::Disturb() {
  for (auto& [id, client] : clients_) {
    if (client.arrives == step_) {
      EXPECT_TRUE(scheduler_->Validate(client.request).ok());
      scheduler_->Add(client.request);
    }
    if (client.aborts == step_) {
      scheduler_->Abort(id, FinishReason::kCancelled);
    }
    if (client.arrives > step_ || client.done) continue;
    const bool pause =
        pauses_ && step_ < 600 && (client.paused ? Chance(90) : Chance(4));
    if (pause != client.paused) {
      client.paused = pause;
      scheduler_->SetPaused(id, pause);
    }
    if (faults_ && Chance(1)) runner_->faulty_requests.insert(id);
  }
  Take(nullptr);
}

void Simulation::Take(const StepOutput* output) {
  for (const SequenceEvent& event : scheduler_->events()) {
    Client& client = clients_.at(event.id);
    EXPECT_FALSE(client.done) << "an event after the last";
    Choice& choice = client.choices.at(event.choice);
    EXPECT_EQ(choice.finish, FinishReason::kNone) << "finished twice";
    for (int32_t i = event.prompt_begin; i < event.begin; ++i) {
      EXPECT_EQ(event.choice, 0);
      client.scores.push_back(output->sampled[i].logprob);
      EXPECT_EQ(output->sampled[i].token,
                client.request.prompt.at(client.scores.size()));
    }
    for (int32_t i = event.begin; i < event.end; ++i) {
      choice.tokens.push_back(output->sampled[i].token);
    }
    EXPECT_EQ(event.generated_tokens,
              static_cast<int32_t>(choice.tokens.size()));
    choice.finish = event.finish;
    client.done = event.last;
    if (event.last) cached_ += event.cached_tokens;
    if (event.finish != FinishReason::kNone) {
      drafted_ += event.draft_tokens;
      accepted_ += event.accepted_draft_tokens;
    }
  }
  scheduler_->ClearEvents();
}

bool Simulation::Done() const {
  return std::all_of(clients_.begin(), clients_.end(),
                     [](const auto& item) { return item.second.done; }) &&
         !in_flight_ && loads_.empty();
}

std::string Simulation::Unfinished() const {
  std::string result;
  for (const auto& [id, client] : clients_) {
    if (!client.done) absl::StrAppend(&result, id, " ");
  }
  return result;
}

void Simulation::CheckAnswer(const Client& client) {
  bool failed = false;
  for (const Choice& choice : client.choices) {
    CheckChoice(client.request.id, choice, faults_ || pins_fill_);
    failed |= choice.finish == FinishReason::kCancelled ||
              choice.finish == FinishReason::kDeadline ||
              choice.finish == FinishReason::kError;
    // Those that did not start when the request failed.
    EXPECT_TRUE(failed || choice.finish != FinishReason::kNone);
    several_done_ += client.choices.size() > 1 && !failed;
  }
  if (client.request.sampling.prompt_logprobs < 0) {
    EXPECT_TRUE(client.scores.empty());
    return;
  }
  const std::vector<float>& all = client.choices[0].alone.prompt_logprobs;
  ASSERT_LE(client.scores.size(), all.size());
  EXPECT_TRUE(
      std::equal(client.scores.begin(), client.scores.end(), all.begin()));
  if (!client.choices[0].tokens.empty()) {
    EXPECT_EQ(client.scores.size(), all.size()) << client.request.id;
  }
}

}  // namespace descant
