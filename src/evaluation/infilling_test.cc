#include "evaluation/infilling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "evaluation/fake_engine.h"

namespace baleen {
namespace {

// Answers by what stands before the hole, which is all that the fake needs to know.
class InfillingTest : public testing::Test {
 protected:
  InfillingTest() {
    engine_.mutable_info().has_fim_tokens = true;
    engine_.answer = [this](const Request& request) {
      const auto& ids = request.prompt_token_ids;
      const auto hole = std::ranges::find(ids, 251);
      return answers_.at(std::string(ids.begin() + 2, hole));
    };
  }

  std::vector<InfillingProblem> problems_ = {{"t/0", "a", "z", "    return x\n"},
                                             {"t/1", "b", "z", "if a:  \n"},
                                             {"t/2", "c", "z", "x = 1"}};
  std::map<std::string, std::string> answers_ = {
      {"a", "    return x\n    and more"}, {"b", "if a:\t \n"}, {"c", "x = 1"}};
  FakeEngine engine_;
};

TEST_F(InfillingTest, ComparesALineButForBlanksAtItsEnd) {
  const Infilling result = MeasureInfilling(engine_, problems_, {});
  EXPECT_EQ(result.num_exact, 3u);
  EXPECT_EQ(result.share, 1);
  EXPECT_EQ(result.standard_error, 0);
  EXPECT_EQ(result.answers[0].text, "    return x");
  EXPECT_EQ(result.answers[1].text, "if a:\t ");

  ASSERT_EQ(engine_.submitted.size(), 3u);
  const Request& request = engine_.submitted[0];
  EXPECT_EQ(request.prompt_token_ids, (std::vector<int32_t>{1, 250, 'a', 251, 'z', 252}));
  EXPECT_EQ(request.sampling.temperature, 0);
}

// Each kind of wrong answer is told from a right one.
TEST_F(InfillingTest, SeesEveryPlantedFault) {
  for (const char* wrong : {"return x\n", "     return x\n", "    return y\n", "    return x  y\n",
                            "    return x;\n", "\n    return x\n", ""}) {
    SCOPED_TRACE(wrong);
    answers_["a"] = wrong;
    const Infilling result = MeasureInfilling(engine_, problems_, {});
    EXPECT_EQ(result.num_exact, 2u);
    EXPECT_FALSE(result.answers[0].exact);
    EXPECT_TRUE(result.answers[1].exact);
    EXPECT_NEAR(result.share, 2 / 3.0, 1e-12);
    EXPECT_NEAR(result.standard_error, std::sqrt(2 / 3.0 * (1 / 3.0) / 3), 1e-12);
  }
}

// Control tokens are 1 and 250 to 252 here.
TEST_F(InfillingTest, EndsAnAnswerAtControlTokens) {
  for (const char control : {'\1', '\xfa', '\xfb', '\xfc'}) {
    answers_["c"] = std::string("x = 1") + control + "2";
    EXPECT_EQ(MeasureInfilling(engine_, problems_, {}).num_exact, 3u);
  }
}

TEST_F(InfillingTest, CutsWhatIsFarFromTheHole) {
  // 100 tokens of context: 25 for the answer, 75 for the prompt, 4 of them control tokens.
  engine_.mutable_info().max_context_tokens = 100;
  problems_ = {{"t/0", std::string(70, 'p'), "s", "x"}, {"t/1", std::string(71, 'p'), "s", "x"}};
  answers_ = {{std::string(70, 'p'), "x"}};
  const Infilling result = MeasureInfilling(engine_, problems_, {});
  EXPECT_EQ(result.num_cut_prompts, 1u);
  EXPECT_FALSE(result.answers[0].cut_prompt);
  EXPECT_TRUE(result.answers[1].cut_prompt);
  EXPECT_EQ(engine_.submitted[1].prompt_token_ids.size(), 75u);
  EXPECT_EQ(engine_.submitted[1].max_tokens, 25u);

  engine_.mutable_info().max_context_tokens = 20;
  EXPECT_EQ(CodeOf([&] { MeasureInfilling(engine_, problems_, {}); }), ErrorCode::kInvalidArgument);
}

TEST_F(InfillingTest, ReportsProgressAndStops) {
  InfillingOptions options;
  options.num_in_flight = 2;
  std::vector<size_t> done;
  options.on_progress = [&](size_t n, size_t total) {
    EXPECT_EQ(total, 3u);
    EXPECT_LE(engine_.submitted.size(), n + 2);
    done.push_back(n);
  };
  MeasureInfilling(engine_, problems_, options);
  EXPECT_EQ(done, (std::vector<size_t>{1, 2, 3}));
  engine_.submitted.clear();
  options.cancelled = [&] { return done.size() == 4; };
  EXPECT_EQ(CodeOf([&] { MeasureInfilling(engine_, problems_, options); }), ErrorCode::kCancelled);
}

TEST_F(InfillingTest, NeedsTheTokensAndProblems) {
  EXPECT_EQ(CodeOf([&] { MeasureInfilling(engine_, {}, {}); }), ErrorCode::kInvalidArgument);
  engine_.mutable_info().has_fim_tokens = false;
  EXPECT_EQ(CodeOf([&] { MeasureInfilling(engine_, problems_, {}); }), ErrorCode::kUnimplemented);
}

TEST(InfillingProblems, AreReadFromLines) {
  const auto problems = ReadInfillingProblems(
      R"({"task_id": "a", "prompt": "p\n", "suffix": "s", "canonical_solution": "  x\n", "test": 1}

{"canonical_solution": "", "suffix": "", "prompt": "", "task_id": ""})",
      "f.jsonl");
  ASSERT_EQ(problems.size(), 2u);
  EXPECT_EQ(problems[0].task_id, "a");
  EXPECT_EQ(problems[0].prefix, "p\n");
  EXPECT_EQ(problems[0].suffix, "s");
  EXPECT_EQ(problems[0].solution, "  x\n");
}

TEST(InfillingProblems, RefusesOddLines) {
  const auto refused = [](const std::string& line, ErrorCode code, const std::string& reason) {
    SCOPED_TRACE(line);
    const std::string good =
        R"({"task_id": "a", "prompt": "", "suffix": "", "canonical_solution": "x"})";
    try {
      ReadInfillingProblems(good + "\n" + line, "f.jsonl");
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code);
      EXPECT_NE(std::string(error.what()).find("f.jsonl, line 2"), std::string::npos);
      EXPECT_NE(std::string(error.what()).find(reason), std::string::npos) << error.what();
    }
  };
  using enum ErrorCode;
  refused("{", kCorruption, "JSON");
  refused("[]", kCorruption, "object");
  refused("\xff", kCorruption, "JSON");
  refused(std::string(100000, '['), kCorruption, "JSON");
  refused(R"({"task_id": "a", "prompt": "", "suffix": ""})", kCorruption, "canonical_solution");
  refused(R"({"task_id": "a", "prompt": "", "suffix": null, "canonical_solution": ""})",
          kCorruption, "suffix");
  refused(R"({"task_id": 7, "prompt": "", "suffix": "", "canonical_solution": ""})", kCorruption,
          "task_id");
  refused(R"({"task_id": "a", "prompt": "", "suffix": "", "canonical_solution": "x\ny\n"})",
          kUnimplemented, "several lines");
  EXPECT_EQ(CodeOf([] { ReadInfillingProblems(" \n\n", "f"); }), kCorruption);
}

}  // namespace
}  // namespace baleen
