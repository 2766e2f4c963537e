// runtime/stop_matcher.h: finds stop texts in an answer that arrives in pieces.
//
// Text that could be the beginning of a stop text is held back until it is decided.
// Threads: one at a time.
#ifndef BALEEN_RUNTIME_STOP_MATCHER_H_
#define BALEEN_RUNTIME_STOP_MATCHER_H_

#include <string>
#include <string_view>
#include <vector>

namespace baleen {

class StopMatcher {
 public:
  // Empty texts are ignored.
  explicit StopMatcher(std::vector<std::string> stops);

  // Takes more text; returns what is surely part of the answer. After a match (stopped() is true)
  // that is what stood before the earliest stop text, and everything later is dropped.
  std::string Push(std::string_view text);
  // The end of the answer: what was held back.
  std::string Flush();

  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace baleen

#endif  // BALEEN_RUNTIME_STOP_MATCHER_H_
