#include "evaluation/perplexity.h"

#include <gtest/gtest.h>

#include <cmath>

#include "evaluation/fake_engine.h"

namespace baleen {
namespace {

WindowOptions Options(size_t context_tokens) {
  return {.context_tokens = context_tokens, .bos_token_id = 1, .on_progress = {}, .cancelled = {}};
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

TEST(Documents, AreScoredEachByItselfWithItsEnd) {
  FakeEngine engine;
  // BOS is 1, the end 100. "ab": 1 -> 97 2 bits, 97 -> 98 1, 98 -> 100 distance 2: 4 bits.
  // "": 1 -> 100: 2 bits. "c" in a window by itself: 1 -> 99: distance 98: 4 bits; then the end.
  const std::vector<std::string> documents = {"ab", "", "c"};
  const Perplexity result = MeasureDocuments(engine, documents, 100, Options(4));
  const std::vector<std::vector<int32_t>> windows = {{1, 97, 98, 100}, {1, 100}, {1, 99, 100}};
  EXPECT_EQ(engine.scored, windows);
  EXPECT_EQ(result.tokens, 6u);
  EXPECT_EQ(result.bytes, 3u);
  EXPECT_NEAR(result.bits_per_byte, (7 + 2 + 4 + 1) / 3.0, 1e-6);
  EXPECT_NEAR(result.loss, 14 * std::log(2.0) / 6, 1e-6);

  // Another cut is another figure: "ab" and its end in windows of two tokens.
  engine.scored.clear();
  MeasureDocuments(engine, documents, 100, Options(3));
  EXPECT_EQ(engine.scored[0], (std::vector<int32_t>{1, 97, 98}));
  EXPECT_EQ(engine.scored[1], (std::vector<int32_t>{1, 100}));

  // Without ends: 2 + 1 and 4 bits.
  EXPECT_NEAR(MeasureDocuments(engine, documents, -1, Options(4)).bits_per_byte, 7 / 3.0, 1e-6);
  EXPECT_EQ(CodeOf([&] { MeasureDocuments(engine, {}, 100, Options(4)); }),
            ErrorCode::kInvalidArgument);
}

// Options that write down what is reported of `total` tokens.
WindowOptions Reporting(size_t total, std::vector<size_t>& done) {
  WindowOptions options = Options(3);
  options.on_progress = [total, &done](size_t tokens, size_t all) {
    EXPECT_EQ(all, total);
    done.push_back(tokens);
  };
  return options;
}

TEST(Documents, ReportProgressOverAll) {
  FakeEngine engine;
  std::vector<size_t> done;
  const WindowOptions options = Reporting(6, done);
  const std::vector<std::string> documents = {"abc", "d"};
  MeasureDocuments(engine, documents, 100, options);
  EXPECT_EQ(done, (std::vector<size_t>{2, 4, 6}));
}

TEST(Documents, AreReadFromLines) {
  const auto documents =
      ReadDocuments("{\"text\": \"a\\n\", \"path\": 1}\n\n{\"text\": \"\"}", "f");
  EXPECT_EQ(documents, (std::vector<std::string>{"a\n", ""}));
  EXPECT_EQ(CodeOf([] { ReadDocuments("{\"text\": 1}", "f"); }), ErrorCode::kCorruption);
  EXPECT_EQ(CodeOf([] { ReadDocuments("{\"txt\": \"\"}", "f"); }), ErrorCode::kCorruption);
  EXPECT_EQ(CodeOf([] { ReadDocuments("", "f"); }), ErrorCode::kCorruption);
}

TEST(Perplexity, ReportsProgressAndStops) {
  FakeEngine engine;
  std::vector<size_t> done;
  WindowOptions options = Reporting(5, done);
  MeasurePerplexity(engine, "abcde", options);
  EXPECT_EQ(done, (std::vector<size_t>{2, 4, 5}));

  options.cancelled = [&] { return engine.scored.size() == 4; };
  EXPECT_EQ(CodeOf([&] { MeasurePerplexity(engine, "abcde", options); }), ErrorCode::kCancelled);
}

}  // namespace
}  // namespace baleen
