#include "runtime/tokenizer/detokenizer.h"

#include "runtime/tokenizer/tokenizer_parts.h"

namespace descant {

IncrementalDetokenizer::IncrementalDetokenizer(const Tokenizer* tokenizer,
                                               bool skip_special_tokens)
    : tokenizer_(tokenizer),
      skip_special_tokens_(skip_special_tokens),
      stream_(&tokenizer->parts().decoder) {}

std::string IncrementalDetokenizer::Append(int32_t id) {
  std::string delta;
  const TokenTable::Entry* token = tokenizer_->parts().table.Find(id);
  if (token != nullptr && !(skip_special_tokens_ && token->skipped)) {
    stream_.Append(token->prepared, &delta);
  }
  return delta;
}

std::string IncrementalDetokenizer::Flush() {
  std::string delta;
  stream_.Flush(&delta);
  return delta;
}

}  // namespace descant
