#include "runtime/prefix_cache.h"

#include <gtest/gtest.h>

namespace baleen {
namespace {

constexpr size_t kTokens = 2;  // a block's

class PrefixCacheTest : public testing::Test {
 protected:
  // Puts a text of whole blocks into the cache; returns its last node, pinned.
  PrefixCache::Node* Put(const std::string& key, const std::vector<int32_t>& ids) {
    std::vector<std::byte*> blocks;
    PrefixCache::Node* node = cache_.Pin(key, ids, blocks);
    for (size_t i = blocks.size() * kTokens; i < ids.size(); i += kTokens) {
      std::byte* block = pool_.Take();
      node = cache_.Extend(node, std::span(ids).subspan(i, kTokens), block);
    }
    return node;
  }
  // How many blocks of the text are there.
  size_t Find(const std::string& key, const std::vector<int32_t>& ids) {
    std::vector<std::byte*> blocks;
    cache_.Unpin(cache_.Pin(key, ids, blocks));
    return blocks.size();
  }

  BlockPool pool_{64, 6};
  PrefixCache cache_{pool_, kTokens};
};

TEST_F(PrefixCacheTest, FindsTheLongestBeginningInWholeBlocks) {
  cache_.Unpin(Put("", {1, 2, 3, 4}));
  cache_.Unpin(Put("", {1, 2, 5, 6}));
  EXPECT_EQ(pool_.num_free(), 3u);  // the first block is shared
  EXPECT_EQ(Find("", {1, 2, 3, 4, 9}), 2u);
  EXPECT_EQ(Find("", {1, 2, 3}), 1u);
  EXPECT_EQ(Find("", {1, 2, 5, 6}), 2u);
  EXPECT_EQ(Find("", {1}), 0u);
  EXPECT_EQ(Find("", {3, 4}), 0u);
  EXPECT_EQ(Find("salted", {1, 2, 3, 4}), 0u);
}

TEST_F(PrefixCacheTest, KeepsOneOfTwoEqualBlocks) {
  PrefixCache::Node* first = Put("", {1, 2});
  std::vector<std::byte*> none, found;
  PrefixCache::Node* root = cache_.Pin("", {}, none);
  std::byte* block = pool_.Take();
  const std::byte* given = block;
  PrefixCache::Node* second = cache_.Extend(root, std::vector<int32_t>{1, 2}, block);
  EXPECT_EQ(second, first);
  EXPECT_NE(block, given);
  EXPECT_EQ(pool_.num_free(), 5u);
  cache_.Unpin(first);
  EXPECT_EQ(cache_.num_idle(), 0u);
  EXPECT_FALSE(cache_.Reclaim());
  cache_.Unpin(second);
  EXPECT_EQ(cache_.num_idle(), 1u);
}

TEST_F(PrefixCacheTest, GivesUpWhatWasUsedLeastRecentlyAndEndsFirst) {
  cache_.Unpin(Put("", {1, 2, 3, 4}));
  cache_.Unpin(Put("", {5, 6}));
  PrefixCache::Node* pinned = Put("", {7, 8});
  EXPECT_EQ(cache_.num_idle(), 3u);
  EXPECT_EQ(Find("", {1, 2}), 1u);  // used again: its end is still the oldest
  EXPECT_TRUE(cache_.Reclaim());
  EXPECT_EQ(Find("", {1, 2, 3, 4}), 1u);
  EXPECT_TRUE(cache_.Reclaim());
  EXPECT_EQ(Find("", {5, 6}), 0u);
  EXPECT_TRUE(cache_.Reclaim());
  EXPECT_EQ(Find("", {1, 2}), 0u);
  EXPECT_FALSE(cache_.Reclaim());  // the rest is in use
  EXPECT_EQ(cache_.num_idle(), 0u);
  cache_.Unpin(pinned);
  EXPECT_TRUE(cache_.Reclaim());
  EXPECT_EQ(pool_.num_free(), 6u);
}

TEST_F(PrefixCacheTest, APinnedEndKeepsItsBeginning) {
  PrefixCache::Node* end = Put("", {1, 2, 3, 4, 5, 6});
  EXPECT_FALSE(cache_.Reclaim());
  EXPECT_EQ(PrefixCache::Depth(end), 3u);
  cache_.Unpin(end);
  EXPECT_EQ(cache_.num_idle(), 3u);
}

}  // namespace
}  // namespace baleen
