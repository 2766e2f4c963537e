// training/near_duplicates.h: which documents say what another one has said before.
//
// A document is the set of its runs of five words (shingles; a word is a run of ASCII letters,
// digits and _, or of bytes beyond ASCII). Two are near-duplicates if their sets overlap by more
// than 0.8 in the sense of Jaccard, as estimated from signatures: the set is hashed, each of 126
// bins keeps its smallest hash (one-permutation minhash, Li, Owen and Zhang, NIPS 2012), bins
// without one borrow from others in a random order (Shrivastava, "Optimal densification for fast
// and accurate minwise hashing", ICML 2017), and the share of equal bins is the estimate. Its
// standard error at 0.8 is 0.04. Only documents that agree in all six bins of one of 21 bands are
// compared (locality-sensitive hashing): of pairs at 0.8, 998 in a thousand are.
//
// What layout and punctuation change goes unseen, on purpose. Memory: about 0.8 kB a document.
#ifndef BALEEN_TRAINING_NEAR_DUPLICATES_H_
#define BALEEN_TRAINING_NEAR_DUPLICATES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace baleen {

// Threads: one at a time.
class NearDuplicates {
 public:
  static constexpr double kMaxSimilarity = 0.8;

  // Is a document like this one there already? If not, it is added.
  bool Seen(std::string_view text);

 private:
  static constexpr size_t kNumBands = 21;
  static constexpr size_t kBandBins = 6;
  static constexpr size_t kNumBins = kNumBands * kBandBins;
  using Signature = std::array<uint16_t, kNumBins>;

  static Signature Sign(std::string_view text);
  static double Similarity(const Signature& a, const Signature& b);

  std::vector<Signature> signatures_;
  // Of each band: hash of its bins -> the last document that has them; and of each document, the
  // one before it that has them too.
  std::array<std::unordered_map<uint64_t, uint32_t>, kNumBands> last_;
  std::vector<std::array<uint32_t, kNumBands>> previous_;
};

}  // namespace baleen

#endif  // BALEEN_TRAINING_NEAR_DUPLICATES_H_
