// Whole runs on a tiny model: what they leave, that they go on bit for bit, and what is refused.
#include "training/trainer.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/error.h"
#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_export.h"
#include "checkpoint/stories_testing.h"
#include "formats/safetensors.h"
#include "training/run_log.h"

namespace baleen {
namespace {

namespace fs = std::filesystem;

const std::string kStories = BALEEN_SOURCE_DIR "/models/baleen-stories-mini";

// A V3 of the smallest size that has everything: groups, a shared expert, MTP.
constexpr const char* kModel = R"({"architectures": ["DeepseekV3ForCausalLM"],
  "model_type": "deepseek_v3", "vocab_size": 4096, "hidden_size": 32, "intermediate_size": 48,
  "moe_intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
  "num_key_value_heads": 2, "n_shared_experts": 1, "n_routed_experts": 8, "kv_lora_rank": 16,
  "routed_scaling_factor": 1.5, "q_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
  "v_head_dim": 8, "n_group": 2, "topk_group": 1, "num_experts_per_tok": 2,
  "first_k_dense_replace": 1, "norm_topk_prob": true, "scoring_func": "sigmoid",
  "topk_method": "noaux_tc", "max_position_embeddings": 64, "rms_norm_eps": 1e-06,
  "bos_token_id": 0, "eos_token_id": 1, "num_nextn_predict_layers": 1,
  "torch_dtype": "bfloat16"})";

class TrainerTest : public testing::Test {
 protected:
  TrainerTest()
      : directory_(testing::TempDir() + "trainer_test_" +
                   testing::UnitTest::GetInstance()->current_test_info()->name()) {
    fs::remove_all(directory_);
    fs::create_directories(directory_);
    const char* names[] = {"cat", "dog", "bird", "fox"};
    for (int i = 0; i < 24; ++i) {
      const std::string path = directory_ + "/story" + std::to_string(i);
      std::ofstream(path) << "One day a " << names[i % 4] << " went to the park. It was day " << i
                          << ". The " << names[(i + 1) % 4] << " was happy to see the "
                          << names[i % 4] << ". They played all day long and went home.";
      config_.data.push_back(path);
    }
    config_.model = kModel;
    config_.tokenizer = kStories;
    config_.output = directory_ + "/out";
    config_.held_out_share = 0.2;
    config_.drop_near_duplicates = false;  // these are
    config_.steps = 8;
    config_.sequence_length = 24;
    config_.batch_size = 4;
    config_.micro_batch_size = 2;
    config_.warmup_steps = 2;
    config_.lr = 3e-3;
    config_.checkpoint_every = 3;
    config_.validate_every = 4;
  }
  ~TrainerTest() override { fs::remove_all(directory_); }

  static std::string Bytes(const std::string& path) { return ReadFile(path, 1 << 28); }
  std::string Weights(const std::string& output) {
    return Bytes(output + "/model.safetensors") + Bytes(output + "/run/state.safetensors");
  }
  ErrorCode CodeOf(const TrainConfig& config) {
    try {
      Train(config, {.num_threads = 1});
    } catch (const Error& error) {
      message_ = error.what();
      return error.code();
    }
    return ErrorCode::kInternal;
  }

  std::string directory_;
  TrainConfig config_;
  std::string message_;
};

TEST_F(TrainerTest, LearnsAndLeavesAModel) {
  config_.steps = 60;
  double first = 0, last = 0;
  const TrainResult result =
      Train(config_, {.num_threads = 2, .version = "test", .on_step = [&](const StepReport& r) {
                        if (r.step == 1) first = r.loss;
                        last = r.loss;
                      }});
  EXPECT_NEAR(first, std::log(4096.0), 0.2);
  EXPECT_LT(last, first - 2);
  EXPECT_EQ(result.steps, 60u);
  EXPECT_EQ(result.tokens, 60u * 4 * 24);
  EXPECT_GT(result.validation_loss, 0);

  const Checkpoint checkpoint = OpenCheckpoint(config_.output);
  EXPECT_EQ(checkpoint.config.model.hidden_size, 32u);
  EXPECT_EQ(checkpoint.weights.mtp.size(), 1u);
  EXPECT_TRUE(checkpoint.text.tokenizer);
  for (const char* name : {"provenance.json", "generation_config.json", "run/report.html"}) {
    EXPECT_TRUE(fs::exists(config_.output + "/" + name)) << name;
  }
  JsonDocument::Parse(Bytes(config_.output + "/provenance.json"), "provenance.json");
  std::ifstream metrics(config_.output + "/run/metrics.jsonl");
  std::string line;
  uint64_t lines = 0;
  while (std::getline(metrics, line)) {
    const JsonDocument json = JsonDocument::Parse(line, "metrics.jsonl");
    EXPECT_EQ(uint64_t(json.root()["step"]), ++lines);
    for (const char* key : {"tokens", "loss", "lr", "grad_norm", "tokens_per_s", "max_vio"}) {
      EXPECT_EQ(json.root().at_key(key).error(), simdjson::SUCCESS) << key;
    }
  }
  EXPECT_EQ(lines, 60u);
}

// The module's own parameters keep their bits, and those of the model do not.
TEST_F(TrainerTest, LeavesMtpOutWithoutWeight) {
  config_.steps = 1;
  config_.lr = 1e-30;  // the weights that both begin with
  config_.warmup_steps = 0;
  config_.bias_update_speed = 0;
  Train(config_, {.num_threads = 1});
  TrainConfig without = config_;
  without.bias_update_speed = 1e-3;
  without.mtp_weight = 0;
  without.lr = 1e-2;
  without.steps = 2;
  without.optimizer = "muon";
  without.output += "-without";
  double mtp_loss = -1;
  Train(without,
        {.num_threads = 1, .on_step = [&](const StepReport& r) { mtp_loss = r.mtp_loss; }});
  EXPECT_EQ(mtp_loss, 0);

  const SafetensorsFile before(config_.output + "/model.safetensors");
  const SafetensorsFile after(without.output + "/model.safetensors");
  size_t kept = 0, changed = 0;
  for (const auto& [name, view] : before.tensors()) {
    const TensorView* now = after.Find(name);
    ASSERT_NE(now, nullptr) << name;
    const bool is_same = std::ranges::equal(std::span(view.data, view.size_bytes()),
                                            std::span(now->data, now->size_bytes()));
    if (name.starts_with("model.layers.2.")) {
      EXPECT_TRUE(is_same) << name;
      ++kept;
    } else {
      changed += is_same ? 0 : 1;
    }
  }
  EXPECT_GT(kept, 10u);
  EXPECT_GT(changed, 10u);
}

TEST_F(TrainerTest, SaysThatItLearnedToFillHoles) {
  config_.steps = 1;
  Train(config_, {.num_threads = 1, .version = "test"});
  EXPECT_FALSE(OpenCheckpoint(config_.output).text.knows_fim);
  config_.fim_rate = 0.5;
  config_.output += "-fim";
  Train(config_, {.num_threads = 1, .version = "test"});
  EXPECT_TRUE(OpenCheckpoint(config_.output).text.knows_fim);
}

// Killed without warning after some step, then started again: the same bits as without.
TEST_F(TrainerTest, GoesOnBitForBitAfterAKill) {
  TrainConfig whole = config_;
  whole.output = directory_ + "/whole";
  Train(whole, {.num_threads = 1});
  const pid_t child = fork();
  if (child == 0) {
    Train(config_, {.num_threads = 1, .on_step = [](const StepReport& r) {
                      if (r.step == 5) kill(getpid(), SIGKILL);
                    }});
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  std::vector<uint64_t> steps;
  Train(config_,
        {.num_threads = 2, .on_step = [&](const StepReport& r) { steps.push_back(r.step); }});
  EXPECT_EQ(steps, (std::vector<uint64_t>{4, 5, 6, 7, 8}));
  EXPECT_EQ(Bytes(config_.output + "/model.safetensors"),
            Bytes(whole.output + "/model.safetensors"));
  std::ifstream metrics(config_.output + "/run/metrics.jsonl");
  EXPECT_EQ(std::count(std::istreambuf_iterator<char>(metrics), {}, '\n'), 8);
}

TEST_F(TrainerTest, StopsWithACheckpointWhenAsked) {
  const TrainResult result = Train(config_, {.num_threads = 1, .stop = [] { return true; }});
  EXPECT_TRUE(result.interrupted);
  EXPECT_EQ(result.steps, 1u);
  const TrainResult rest = Train(config_, {.num_threads = 1});
  EXPECT_EQ(rest.steps, 8u);
  EXPECT_FALSE(rest.interrupted);
}

TEST_F(TrainerTest, ALongRunShowsItsExpertsSoon) {
  config_.steps = 100'000;
  config_.validate_every = 100'000;
  config_.checkpoint_every = 100'000;
  uint64_t asked = 0;
  Train(config_, {.num_threads = 1, .stop = [&asked] { return ++asked == 101; }});
  const std::string load = Bytes(config_.output + "/run/expert_load.jsonl");
  const JsonDocument json = JsonDocument::Parse(load, "expert_load.jsonl");  // one line
  EXPECT_EQ(uint64_t(json.root()["step"]), 100u);
  EXPECT_EQ(json.root()["load"].get_array().size(), 2u);  // a layer and the MTP module
}

TEST_F(TrainerTest, GoesOnFromACheckpoint) {
  TrainConfig config = config_;
  config.model.clear();
  config.tokenizer.clear();
  config.init = kStories;
  config.products = "f32";
  config.steps = 2;
  double first = 0;
  Train(config, {.num_threads = 2, .on_step = [&](const StepReport& r) {
                   if (r.step == 1) first = r.loss;
                 }});
  EXPECT_LT(first, 4.5) << "a trained model knows stories";
}

// The model in 4 bits has nearly the loss of the one that it was made from, and what comes of
// training is no quantized model.
TEST_F(TrainerTest, ProvenanceKeepsThatOfTheBeginning) {
  config_.steps = 1;
  Train(config_, {.num_threads = 1, .version = "first"});
  TrainConfig next = config_;
  next.model.clear();
  next.init = config_.output;
  next.output += "-next";
  Train(next, {.num_threads = 1, .version = "second"});
  const std::string path = next.output + "/provenance.json";
  {
    const JsonDocument json = JsonDocument::Parse(Bytes(path), path);
    EXPECT_EQ(json.String("program"), "baleen second");
    EXPECT_EQ(std::string_view(json.root()["continues"]["program"]), "baleen first");
  }
  // What is no JSON is left out, so that the file stays whole.
  std::ofstream(next.init + "/provenance.json") << "{\"program\": ";
  next.output += "-again";
  Train(next, {.num_threads = 1, .version = "third"});
  const JsonDocument json = JsonDocument::Parse(Bytes(next.output + "/provenance.json"), path);
  EXPECT_EQ(json.root()["continues"].error(), simdjson::NO_SUCH_FIELD);
}

TEST_F(TrainerTest, GoesOnFromAQuantizedCheckpoint) {
  TrainConfig config = config_;
  config.model.clear();
  config.tokenizer.clear();
  config.products = "f32";
  config.steps = 1;
  double losses[2] = {};
  for (const char* name : {"", "-gptq4"}) {
    config.init = kStories + name;
    config.output = directory_ + "/from" + name;
    Train(config, {.num_threads = 2,
                   .on_step = [&](const StepReport& r) { losses[*name == 0 ? 0 : 1] = r.loss; }});
  }
  EXPECT_NE(losses[0], losses[1]);
  EXPECT_NEAR(losses[1], losses[0], 0.05 * losses[0]);
  EXPECT_EQ(Bytes(config.output + "/config.json").find("quantization_config"), std::string::npos);
  EXPECT_NO_THROW(OpenCheckpoint(config.output));
}

TEST_F(TrainerTest, AGgufFileNeedsATokenizerBesides) {
  TrainConfig config = config_;
  config.model.clear();
  config.products = "f32";
  config.steps = 1;
  config.init = directory_ + "/stories.gguf";
  ExportGguf(OpenCheckpoint(TestStories()), config.init, {.type = DType::kBF16, .num_threads = 2});
  double losses[2] = {};
  for (const bool from_gguf : {true, false}) {
    if (!from_gguf) config.init = TestStories();
    config.output = directory_ + (from_gguf ? "/a" : "/b");
    Train(config,
          {.num_threads = 2, .on_step = [&](const StepReport& r) { losses[from_gguf] = r.loss; }});
  }
  EXPECT_EQ(losses[0], losses[1]);
  EXPECT_NO_THROW(OpenCheckpoint(directory_ + "/a"));
  config.init = directory_ + "/stories.gguf";
  config.tokenizer.clear();
  EXPECT_EQ(CodeOf(config), ErrorCode::kInvalidArgument);
}

TEST_F(TrainerTest, MuonAndAuxLossesRun) {
  config_.optimizer = "muon";
  config_.balance = "aux";
  config_.device_alpha = 0.01;
  config_.communication_alpha = 0.01;
  config_.recompute = true;
  EXPECT_EQ(Train(config_, {.num_threads = 2}).steps, 8u);
}

TEST_F(TrainerTest, ALossThatIsNoNumberKeepsTheLastState) {
  config_.steps = 3;
  Train(config_, {.num_threads = 1});
  const std::string before = Weights(config_.output);
  // A step of this size overflows at once; the run goes on with its own configuration.
  TrainConfig wild = config_;
  wild.output = directory_ + "/wild";
  wild.lr = 1e30;
  wild.warmup_steps = 0;
  wild.steps = 20;
  EXPECT_EQ(CodeOf(wild), ErrorCode::kFailed) << message_;
  EXPECT_EQ(Weights(config_.output), before);
}

// A limit on the size of files stands for a full disk.
TEST_F(TrainerTest, AFullDiskKeepsTheLastState) {
  config_.steps = 3;
  Train(config_, {.num_threads = 1});
  const std::string before = Weights(config_.output);
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {.rlim_cur = 100000, .rlim_max = 100000};
    setrlimit(RLIMIT_FSIZE, &limit);
    config_.steps = 6;
    _exit(static_cast<int>(CodeOf(config_)));
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), static_cast<int>(ErrorCode::kResourceExhausted));
  EXPECT_EQ(Weights(config_.output), before);
}

TEST_F(TrainerTest, RefusesBeforeTheFirstStep) {
  const auto refused = [&](const std::function<void(TrainConfig&)>& change) {
    TrainConfig config = config_;
    config.output = directory_ + "/refused";
    change(config);
    const ErrorCode code = CodeOf(config);
    EXPECT_FALSE(fs::exists(config.output + "/model.safetensors"));
    return code;
  };
  EXPECT_EQ(refused([](auto& c) { c.micro_batch_size = 3; }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused([](auto& c) { c.sequence_length = 65; }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused([](auto& c) { c.schedule = "linear"; }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused([](auto& c) { c.bias_decay_share = 1.5; }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused([](auto& c) { c.lr = -1; }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused([](auto& c) { c.data.clear(); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused([&](auto& c) {
              std::ofstream(directory_ + "/empty");
              c.data = {directory_ + "/empty"};
            }),
            ErrorCode::kCorruption);
  const auto replace = [](TrainConfig& c, const std::string& from, const std::string& to) {
    c.model.replace(c.model.find(from), from.size(), to);
  };
  EXPECT_EQ(refused([&](auto& c) { replace(c, "\"n_group\": 2", "\"n_group\": 3"); }),
            ErrorCode::kCorruption);
  EXPECT_EQ(refused([&](auto& c) { replace(c, "4096", "4000"); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused([&](auto& c) { replace(c, "noaux_tc", "greedy"); }),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused([](auto& c) { c.batch_size = c.micro_batch_size = 1 << 20; }),
            ErrorCode::kResourceExhausted);
}

TEST_F(TrainerTest, RefusesAnotherRunsState) {
  config_.steps = 1;
  Train(config_, {.num_threads = 1});
  TrainConfig other = config_;
  other.lr = 1e-4;
  EXPECT_EQ(CodeOf(other), ErrorCode::kInvalidArgument);
  EXPECT_NE(message_.find("another configuration"), std::string::npos) << message_;
  other = config_;
  other.data.pop_back();
  EXPECT_EQ(CodeOf(other), ErrorCode::kInvalidArgument);
  EXPECT_NE(message_.find("another data"), std::string::npos) << message_;
}

TEST(TrainConfigTest, FilesAndFlagsAgree) {
  const TrainConfig config = ParseTrainConfig(
      R"({"model": {"a": 1}, "data": ["x", "y"], "steps": 5, "lr": 0.5, "recompute": true})", "c");
  EXPECT_EQ(config.model, R"({"a":1})");
  TrainConfig flags;
  for (const TrainKey& key : TrainKeys()) {
    const std::string name = key.name;
    if (name == "model") SetTrainKey(key, R"({"a":1})", flags);
    if (name == "data") SetTrainKey(key, "x,y", flags);
    if (name == "steps") SetTrainKey(key, "5", flags);
    if (name == "lr") SetTrainKey(key, "0.5", flags);
    if (name == "recompute") SetTrainKey(key, "true", flags);
  }
  EXPECT_EQ(ResultKeysJson(config), ResultKeysJson(flags));
  EXPECT_EQ(config.data, flags.data);
  EXPECT_EQ(config.steps, flags.steps);
  for (const char* bad : {R"({"stepz": 1})", R"({"steps": -1})", R"({"lr": "x"})",
                          R"({"data": [1]})", R"({"recompute": 1})", "[]"}) {
    EXPECT_THROW(ParseTrainConfig(bad, "c"), Error) << bad;
  }
}

// The check value of CRC-32C (RFC 3720, B.4), and a record taken apart by hand.
TEST(EventFileTest, RecordsAreFramed) {
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aau);
  const std::string record = EventRecord(1.0, 7, {{"a", 0.5}});
  const std::string event = record.substr(12, record.size() - 16);
  EXPECT_EQ(static_cast<size_t>(record[0]), event.size());
  EXPECT_EQ(event, std::string("\x09\0\0\0\0\0\0\xf0\x3f\x10\x07\x2a\x0a\x0a\x08\x0a\x01"
                               "a\x15\0\0\0\x3f",
                               23));
}

}  // namespace
}  // namespace baleen
