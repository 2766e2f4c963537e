#include "evaluation/routing.h"

#include <gtest/gtest.h>

#include "evaluation/fake_engine.h"

namespace baleen {
namespace {

TEST(Routing, KeepsTokensAsTheyAre) {
  FakeEngine engine;
  const std::vector<int32_t> ids = {3, 6};
  const RoutingTable table = TraceRouting(engine, ids);
  EXPECT_EQ(table.token_ids, ids);
  EXPECT_EQ(table.layers, (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(table.experts_per_token, 2u);
  // Layer 1: tokens 3 and 6, then layer 2; expert (token + layer + choice) mod 8.
  EXPECT_EQ(table.experts, (std::vector<int32_t>{4, 5, 7, 0, 5, 6, 0, 1}));
  EXPECT_EQ(table.weights, (std::vector<float>{3, 4, 6, 7, 3, 4, 6, 7}));
}

TEST(Routing, JoinsWindowsWithoutBos) {
  FakeEngine engine;
  const std::vector<int32_t> ids = {10, 11, 12, 13, 14};
  const RoutingTable whole = TraceRouting(engine, ids);
  const RoutingTable pieces = TraceRoutingInWindows(
      engine, ids, {.context_tokens = 3, .bos_token_id = 1, .on_progress = {}, .cancelled = {}});
  EXPECT_EQ(pieces.token_ids, whole.token_ids);
  EXPECT_EQ(pieces.experts, whole.experts);
  EXPECT_EQ(pieces.weights, whole.weights);
  EXPECT_EQ(engine.scored.back(), (std::vector<int32_t>{1, 14}));
}

TEST(Routing, RefusesADenseModel) {
  FakeEngine engine;
  engine.mutable_info().num_experts_per_tok = 0;
  const std::vector<int32_t> ids = {1};
  try {
    TraceRouting(engine, ids);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnimplemented);
  }
}

}  // namespace
}  // namespace baleen
