#include "evaluation/perplexity.h"

#include <gtest/gtest.h>

#include <cmath>

#include "evaluation/fake_engine.h"

namespace baleen {
namespace {

WindowOptions Options(size_t context_tokens) {
  return {.context_tokens = context_tokens, .bos_token_id = 1, .on_progress = {}, .cancelled = {}};
}

ErrorCode CodeOf(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode{0};
}

TEST(Perplexity, MatchesArithmeticByHand) {
  FakeEngine engine;
  // Windows of 3 tokens after BOS (1): "abc", "d".
  // 1 -> 97: distance 96, 96 mod 3 = 0: 2 bits. 97 -> 98 -> 99: 1 bit each.
  // 1 -> 100: distance 99: 2 bits. Together 6 bits over 4 tokens.
  const Perplexity result = MeasurePerplexity(engine, "abcd", Options(4));
  EXPECT_EQ(result.tokens, 4u);
  EXPECT_EQ(result.bytes, 4u);
  EXPECT_NEAR(result.loss, 1.5 * std::log(2.0), 1e-6);
  EXPECT_NEAR(result.perplexity, std::pow(2.0, 1.5), 1e-5);
  EXPECT_NEAR(result.bits_per_byte, 1.5, 1e-6);
  const std::vector<std::vector<int32_t>> windows = {{1, 97, 98, 99}, {1, 100}};
  EXPECT_EQ(engine.scored, windows);
}

// The checker sees a wrong cut: another context gives another figure.
TEST(Perplexity, DependsOnTheContext) {
  FakeEngine engine;
  // One window: 2 + 1 + 1 + 1 bits.
  EXPECT_NEAR(MeasurePerplexity(engine, "abcd", Options(5)).bits_per_byte, 1.25, 1e-6);
  // Windows of one token: distances 96, 97, 98, 99: 2 + 3 + 4 + 2 bits.
  EXPECT_NEAR(MeasurePerplexity(engine, "abcd", Options(2)).bits_per_byte, 11.0 / 4, 1e-6);
}

TEST(Perplexity, ScoresEveryTokenOnceWhateverTheContext) {
  FakeEngine engine;
  const std::string text(1000, 'x');
  for (const size_t context : {2, 3, 7, 500, 1000, 1001, 1002}) {
    engine.scored.clear();
    EXPECT_EQ(MeasurePerplexity(engine, text, Options(context)).tokens, 1000u);
    size_t sum = 0;
    for (const auto& window : engine.scored) {
      EXPECT_LE(window.size(), context);
      sum += window.size() - 1;
    }
    EXPECT_EQ(sum, 1000u);
  }
}

TEST(Perplexity, RefusesWhatItCannotScore) {
  FakeEngine engine;
  EXPECT_EQ(CodeOf([&] { MeasurePerplexity(engine, "", Options(4)); }),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(CodeOf([&] { MeasurePerplexity(engine, "a", Options(1)); }),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(CodeOf([&] { MeasurePerplexity(engine, "a", Options(1025)); }),
            ErrorCode::kInvalidArgument);
  WindowOptions no_bos = Options(4);
  no_bos.bos_token_id = -1;
  EXPECT_EQ(CodeOf([&] { MeasurePerplexity(engine, "a", no_bos); }), ErrorCode::kUnimplemented);
  engine.gives_nan = true;
  EXPECT_EQ(CodeOf([&] { MeasurePerplexity(engine, "a", Options(4)); }), ErrorCode::kFailed);
}

TEST(Perplexity, ReportsProgressAndStops) {
  FakeEngine engine;
  WindowOptions options = Options(3);
  std::vector<size_t> done;
  options.on_progress = [&](size_t tokens, size_t total) {
    EXPECT_EQ(total, 5u);
    done.push_back(tokens);
  };
  MeasurePerplexity(engine, "abcde", options);
  EXPECT_EQ(done, (std::vector<size_t>{2, 4, 5}));

  options.cancelled = [&] { return engine.scored.size() == 4; };
  EXPECT_EQ(CodeOf([&] { MeasurePerplexity(engine, "abcde", options); }), ErrorCode::kCancelled);
}

}  // namespace
}  // namespace baleen
