// Models larger than memory: the same bits as without a limit, and errors that end a request only.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "baleen/engine.h"
#include "base/error.h"
#include "formats/safetensors.h"
#include "formats/safetensors_writer.h"

namespace baleen {
namespace {

namespace fs = std::filesystem;

const std::string kModels = BALEEN_SOURCE_DIR "/models/";

class LargerThanMemoryTest : public testing::Test {
 protected:
  LargerThanMemoryTest()
      : directory_(fs::path(testing::TempDir()) /
                   ("larger_" + std::to_string(::getpid()) + "_" +
                    testing::UnitTest::GetInstance()->current_test_info()->name())) {
    fs::create_directories(directory_);
    ::setenv("XDG_CACHE_HOME", directory_.c_str(), 1);
  }
  ~LargerThanMemoryTest() override { fs::remove_all(directory_); }

  const fs::path directory_;
};

// A limit under which so many experts have slots.
EngineOptions WithSlots(const std::string& model, size_t num_slots, EngineOptions options = {}) {
  options.max_context_tokens = 512;
  options.max_sequences = 1;
  uint64_t least = 1, most = uint64_t{512} << 20;  // refused, and more slots than that
  while (most - least > 1) {
    options.memory_limit_bytes = least + (most - least) / 2;
    size_t slots = 0;
    try {
      const auto info = Engine::Open(model, options)->info();
      slots = info.num_expert_slots == 0 ? ~size_t{0} : info.num_expert_slots;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kResourceExhausted) << error.what();
    }
    if (slots == num_slots) return options;
    (slots < num_slots ? least : most) = options.memory_limit_bytes;
  }
  ADD_FAILURE() << "no limit leaves " << num_slots << " slots";
  return options;
}

std::vector<int32_t> SomeTokens(size_t count) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>(3 + i * i * 37 % 4000));
  return ids;
}

// Logits after each token of a prompt, which goes through all experts, and an answer.
struct Result {
  std::vector<float> logits;
  std::vector<int32_t> answer;
  std::vector<float> logprobs;

  bool operator==(const Result&) const = default;
};

Result ResultOf(Engine& engine) {
  Result result;
  result.logits = engine.ScoreTokens({.token_ids = SomeTokens(70), .logits = true}).logits;
  Request request;
  request.prompt_token_ids = SomeTokens(5);
  request.max_tokens = 24;
  request.ignore_eos = true;
  request.sampling.temperature = 0;
  request.num_logprobs = 0;
  const auto generation = engine.Submit(request);
  for (const GeneratedToken& token : generation->Wait().tokens) {
    result.answer.push_back(token.token_id);
    result.logprobs.push_back(token.logprob);
  }
  return result;
}

// 5 layers of 16 experts, of which a token has two in each.
TEST_F(LargerThanMemoryTest, ALimitChangesNoBit) {
  for (const char* name : {"baleen-stories-mini", "baleen-stories-mini-gptq4"}) {
    const std::string model = kModels + name;
    const Result wanted = ResultOf(*Engine::Open(model));
    for (const size_t slots : {size_t{2}, size_t{7}, size_t{40}}) {
      const EngineOptions limit = WithSlots(model, slots);
      for (const size_t threads : {size_t{1}, size_t{2}}) {
        EngineOptions options = limit;
        options.num_threads = threads;
        const auto engine = Engine::Open(model, options);
        ASSERT_EQ(engine->info().num_expert_slots, slots);
        EXPECT_TRUE(ResultOf(*engine) == wanted) << name << " " << slots << " " << threads;
        const Work work = engine->TotalWork();
        EXPECT_GT(work.expert_uses, 24u * 5 * 2);
        EXPECT_GT(work.expert_uses, work.expert_hits);
        EXPECT_GT(work.disk_bytes, 0u);
        if (slots == 40) {
          EXPECT_GT(work.expert_hits, work.expert_uses / 4);
        }
      }
    }
  }
}

// What needs a file has one, even for a model that would be repacked into memory.
TEST_F(LargerThanMemoryTest, TilesOfASmallModelAreAFileUnderALimit) {
  const std::string model = kModels + "baleen-stories-mini-gptq4";
  const EngineOptions options = WithSlots(model, 5);
  EXPECT_FALSE(fs::is_empty(directory_ / "baleen"));
  fs::remove_all(directory_);
  std::ofstream(directory_) << "no directory can be made here";
  try {
    Engine::Open(model, options);
    ADD_FAILURE() << "opened without a file for its experts";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kResourceExhausted);
    EXPECT_NE(std::string(error.what()).find("in no file"), std::string::npos) << error.what();
  }
}

// The bundled model with its experts in shards of their own, so that these can be damaged.
class ShardedTest : public LargerThanMemoryTest {
 protected:
  ShardedTest() : model_((directory_ / "model").string()) {
    fs::create_directories(model_);
    const std::string source_path = kModels + "baleen-stories-mini";
    for (const char* name : {"config.json", "tokenizer.json", "tokenizer_config.json"}) {
      fs::copy_file(fs::path(source_path) / name, fs::path(model_) / name);
    }
    const auto source = OpenSafetensors(source_path);
    std::vector<TensorSpec> tensors;
    uint64_t others_bytes = 0;
    for (const bool experts : {false, true}) {
      for (const std::string& name : source->Names()) {
        if ((name.find(".experts.") != std::string::npos) != experts) continue;
        const TensorView& view = *source->Find(name);
        tensors.push_back({name, view.dtype, view.shape});
        if (!experts) others_bytes += view.size_bytes();
      }
    }
    CheckpointWriter writer(model_, tensors, {}, others_bytes);
    for (const TensorSpec& tensor : tensors) {
      const TensorView& view = *source->Find(tensor.name);
      writer.Write(tensor.name, {view.data, view.size_bytes()});
    }
    writer.Finish();
    const auto written = OpenSafetensors(model_);
    for (const TensorSpec& tensor : tensors) {
      const std::string file = written->FileOf(tensor.name);
      (tensor.name.find(".experts.") != std::string::npos ? expert_files_ : other_files_)
          .insert(file);
    }
    for (const std::string& file : expert_files_) EXPECT_FALSE(other_files_.contains(file));
  }

  const std::string model_;
  std::set<std::string> expert_files_, other_files_;
};

// The planted fault that shows what the test of bits would see: other bytes on disk.
TEST_F(ShardedTest, AnswersComeFromTheDisk) {
  const Result wanted = ResultOf(*Engine::Open(model_));
  const auto engine = Engine::Open(model_, WithSlots(model_, 3));
  EXPECT_TRUE(ResultOf(*engine) == wanted);
  for (const std::string& path : expert_files_) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(fs::file_size(path) * 3 / 4));
    for (int i = 0; i < 100'000; ++i) file.put('\x3c');
  }
  EXPECT_FALSE(ResultOf(*engine) == wanted);
}

TEST_F(ShardedTest, ADiskThatCannotReadEndsTheRequestOnly) {
  const auto engine = Engine::Open(model_, WithSlots(model_, 3));
  const Result wanted = ResultOf(*engine);
  for (const std::string& path : expert_files_) {
    fs::copy_file(path, path + ".whole");
    fs::resize_file(path, 4096);
  }
  try {
    ResultOf(*engine);
    ADD_FAILURE() << "answered without experts";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCorruption);
    EXPECT_NE(std::string(error.what()).find("safetensors: ends at byte"), std::string::npos)
        << error.what();
  }
  for (const std::string& path : expert_files_) {
    fs::copy_file(path + ".whole", path, fs::copy_options::overwrite_existing);
  }
  EXPECT_TRUE(ResultOf(*engine) == wanted);
}

}  // namespace
}  // namespace baleen
