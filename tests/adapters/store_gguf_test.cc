// GGUF LoRA files are kept as the PEFT pair they stand for.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "tests/adapters/gguf_lora_fixture.h"
#include "tests/adapters/store_fixture.h"

namespace descant {
namespace {

class StoreGgufTest : public StoreTest {
 protected:
  void SetUp() override {
    StoreTest::SetUp();
    store_.base = TinyLlamaBase();
    file_ = GgufLoraDraft().Write();
  }
  UploadSpec Spec() const {
    UploadSpec spec;
    spec.tenant = "acme";
    spec.name = "a";
    spec.declared_size = file_.size();
    spec.format = AdapterFormat::kGguf;
    return spec;
  }

  TestStore store_;
  std::string file_;
};

TEST_F(StoreGgufTest, IsThePairWhateverTheChunks) {
  ASSERT_TRUE(store_.Open(&fs_, root_).ok());
  const auto pair = ReadGgufLora(file_, store_.base);
  ASSERT_TRUE(pair.ok()) << pair.status();
  for (const size_t chunk : {size_t{1}, size_t{100}, file_.size()}) {
    UploadSpec spec = Spec();
    spec.sha256 = HexOf(Sha256Of(file_));
    spec.name = absl::StrCat("a", chunk);
    auto upload = store_.store->BeginUpload(spec);
    ASSERT_TRUE(upload.ok()) << upload.status();
    EXPECT_EQ(Staged(), 0u);  // there is nothing to stage yet
    for (size_t at = 0; at < file_.size(); at += chunk) {
      ASSERT_TRUE((*upload)->Append(BytesOf(file_).subspan(at, chunk)).ok());
      EXPECT_EQ((*upload)->received(), std::min(at + chunk, file_.size()));
    }
    const auto published = (*upload)->Commit();
    ASSERT_TRUE(published.ok()) << published.status();
    EXPECT_EQ(published->info.digest, pair->validated.digest);
    EXPECT_EQ(published->info.file_bytes, pair->safetensors.size());
  }
  EXPECT_EQ(Blobs().size(), 1u);
  EXPECT_EQ(Staged(), 0u);
  // The pair itself is the same adapter; a download gives the pair.
  AdapterFiles files{pair->config_json, pair->safetensors};
  const auto same = store_.Send(TestStore::SpecOf("acme", "a1", files),
                                files.safetensors_bytes);
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_EQ(same->outcome, PublishOutcome::kUnchanged);
  auto download = store_.store->OpenFiles(*store_.registry.Get("acme", "a1"));
  ASSERT_TRUE(download.ok());
  EXPECT_EQ((*download)->config_json(), pair->config_json);
  std::string read((*download)->safetensors_bytes(), '\0');
  ASSERT_TRUE((*download)->Read(0, absl::MakeSpan(read)).ok());
  EXPECT_EQ(read, pair->safetensors);
  EXPECT_TRUE((*download)->Finish().ok());
}

TEST_F(StoreGgufTest, RefusalsLeaveNothing) {
  ASSERT_TRUE(store_.Open(&fs_, root_).ok());
  const auto send = [&](const UploadSpec& spec, const std::string& bytes) {
    return Outcome(store_.Send(spec, bytes).status());
  };
  UploadSpec spec = Spec();
  spec.config_json = "{}";
  EXPECT_EQ(send(spec, file_), "INVALID_ARGUMENT UPLOAD_FORMAT");
  spec = Spec();
  spec.sha256 = std::string(64, '0');
  EXPECT_EQ(send(spec, file_), "INVALID_ARGUMENT UPLOAD_SHA256_MISMATCH");
  // Cut before and behind the header's end, empty, and not declared.
  for (const size_t size :
       {size_t{0}, size_t{1}, file_.size() / 2, file_.size() - 1}) {
    EXPECT_EQ(send(Spec(), file_.substr(0, size)),
              "INVALID_ARGUMENT UPLOAD_TRUNCATED")
        << size;
  }
  spec = Spec();
  spec.declared_size = 0;
  EXPECT_EQ(send(spec, file_), "INVALID_ARGUMENT UPLOAD_SIZE_MISSING");
  EXPECT_NE(send(Spec(), TinyAdapter(1).safetensors_bytes), "OK");
  EXPECT_NE(send(Spec(), file_ + "x"), "OK");
  spec = Spec();
  spec.validate_only = true;
  EXPECT_EQ(send(spec, file_), "OK");
  EXPECT_EQ(Staged(), 0u);
  EXPECT_EQ(store_.store->Stats().open_uploads, 0);
  EXPECT_EQ(store_.store->Stats().staged_bytes, 0u);
  EXPECT_EQ(store_.registry.TotalUsage().adapters, 0);
}

// The quota is of what is staged: the pair, once its size is known.
TEST_F(StoreGgufTest, QuotasAreOfThePair) {
  const auto pair = ReadGgufLora(file_, store_.base);
  ASSERT_TRUE(pair.ok());
  const uint64_t pair_bytes = pair->safetensors.size();
  const uint64_t needed = std::max<uint64_t>(pair_bytes, file_.size());
  store_.options.per_tenant.max_staged_bytes = needed;
  ASSERT_TRUE(store_.Open(&fs_, root_).ok());
  ASSERT_TRUE(store_.Send(Spec(), file_).ok());
  EXPECT_EQ(store_.store->Stats().stored_bytes, pair_bytes);
  EXPECT_EQ(store_.store->Stats().staged_bytes, 0u);
  store_.store.reset();
  TestStore less;
  less.base = store_.base;
  less.options.per_tenant.max_staged_bytes = needed - 1;
  ASSERT_TRUE(less.Open(&fs_, root_).ok());
  EXPECT_EQ(Outcome(less.Send(Spec(), file_).status()),
            "RESOURCE_EXHAUSTED UPLOAD_LIMIT");
  EXPECT_EQ(less.store->Stats().staged_bytes, 0u);
}

}  // namespace
}  // namespace descant
