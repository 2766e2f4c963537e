// Where /infill ends a text, what labels' sums become, and what tokens cost: by hand.
#include "server/infill.h"

#include <gtest/gtest.h>

#include <cmath>

#include "baleen/error.h"
#include "server/cost.h"
#include "server/score.h"

namespace baleen {
namespace {

// Pushed in pieces of each length, so that every border is tried.
std::string Limited(size_t min_indent, const std::string& text, size_t piece) {
  IndentLimit limit(min_indent);
  std::string shown;
  for (size_t i = 0; i < text.size(); i += piece) shown += limit.Push(text.substr(i, piece));
  return shown + limit.Flush();
}

TEST(IndentLimitTest, EndsBeforeALineThatIsLessIndented) {
  for (const size_t piece : {1, 2, 3, 100}) {
    EXPECT_EQ(Limited(4, "x = 1\n    y = 2\n  z", piece), "x = 1\n    y = 2\n");
    EXPECT_EQ(Limited(2, "a\n\t\tb\n\n  c\nd", piece), "a\n\t\tb\n\n  c\n");
    EXPECT_EQ(Limited(0, "a\nb\n  c", piece), "a\nb\n  c");
    // Blanks at the end are not yet a line.
    EXPECT_EQ(Limited(4, "a\n  ", piece), "a\n  ");
    // The first line goes on with one that is there.
    EXPECT_EQ(Limited(8, "return a", piece), "return a");
    EXPECT_EQ(Limited(2, "a\r\n  b\r\nc", piece), "a\r\n  b\r\n");
  }
}

ScorePlan PlanOf(std::vector<ScorePlan::Label> labels) {
  ScorePlan plan;
  plan.labels = std::move(labels);
  return plan;
}

TEST(LabelScoresTest, SoftmaxAndLengths) {
  // ln(1/4) + ln(1/2) against ln(1/8): equal.
  ScorePlan plan = PlanOf({{{1, 2}, 4}, {{3}, 2}});
  const std::vector<double> sums = {std::log(1 / 8.0), std::log(1 / 8.0)};
  EXPECT_NEAR(LabelScores(plan, sums)[0], 0.5, 1e-12);
  plan.apply_softmax = false;
  EXPECT_NEAR(LabelScores(plan, sums)[1], 1 / 8.0, 1e-12);
  // A token of the first is likelier by the square root of 8.
  plan.normalize = LengthNormalize::kTokens;
  EXPECT_NEAR(LabelScores(plan, sums)[0], 1 / std::sqrt(8.0), 1e-12);
  plan.normalize = LengthNormalize::kBytes;
  EXPECT_NEAR(LabelScores(plan, sums)[0], std::pow(8.0, -1 / 4.0), 1e-12);
  EXPECT_NEAR(LabelScores(plan, sums)[1], std::pow(8.0, -1 / 2.0), 1e-12);
  plan.apply_softmax = true;
  plan.normalize = LengthNormalize::kNone;
  const std::vector<double> scores = LabelScores(plan, {-1e6, -1e6 + std::log(3.0)});
  EXPECT_NEAR(scores[0], 0.25, 1e-9);  // far below what e to the sum can hold
}

TEST(CostTest, OnUseAndOnReservation) {
  const PriceList prices = {
      .machine_per_hour = 3.5, .watts = 200, .per_kwh = 0.5, .reference = TokenPrices{2, 0.5, 4}};
  UsageTotal usage;
  usage.prompt_tokens = 3'000'000;
  usage.cached_tokens = 1'000'000;
  usage.completion_tokens = 500'000;
  usage.prompt_machine_seconds = 1800;
  usage.answer_machine_seconds = 3600;
  // 3.60 an hour: 1.80 for the prompts and 3.60 for the answers; others were busy as long again,
  // and of ten hours three were used.
  const CostReport cost = ComputeCost(usage, prices, 36'000, 10'800);
  EXPECT_NEAR(cost.on_use.total, 5.4, 1e-9);
  EXPECT_NEAR(cost.on_use.per_million.input, 0.9, 1e-9);
  EXPECT_EQ(cost.on_use.per_million.cached, 0);
  EXPECT_NEAR(cost.on_use.per_million.output, 7.2, 1e-9);
  EXPECT_NEAR(cost.on_reservation.total, 18, 1e-9);
  EXPECT_NEAR(cost.on_reservation.per_million.output, 24, 1e-9);
  EXPECT_NEAR(cost.reference_total, 2 * 2 + 0.5 + 0.5 * 4, 1e-9);
  // Nothing used costs nothing, and divides by nothing.
  EXPECT_EQ(ComputeCost({}, prices, 0, 0).on_use.per_million.output, 0);
}

TEST(CostTest, PricesAreRead) {
  EXPECT_EQ(ParseTokenPrices("--p", "1,0.5,2e1").output, 20);
  for (const char* text : {"", "1", "1,2", "1,2,3,4", "1,2,x", "-1,2,3", "1,2,3 ", "nan,1,1"}) {
    EXPECT_THROW(ParseTokenPrices("--p", text), Error) << text;
  }
}

}  // namespace
}  // namespace baleen
