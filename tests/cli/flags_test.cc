// Flags are written down in four more places; none may be forgotten there.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <set>

#include "cli/program.h"

namespace baleen::cli_test {
namespace {

const std::vector<Arguments> kVerbs = {{"run"},
                                       {"serve"},
                                       {"keys", "add"},
                                       {"keys", "list"},
                                       {"keys", "revoke"},
                                       {"usage"},
                                       {"inspect"},
                                       {"doctor"},
                                       {"bench"},
                                       {"convert"},
                                       {"evaluate"},
                                       {"quantize"},
                                       {"train"},
                                       {"tokenizer", "encode"},
                                       {"tokenizer", "decode"},
                                       {"tokenizer", "train"}};

std::string HelpOf(Arguments verb) {
  verb.push_back("--help");
  const Outcome outcome = RunProgram(verb);
  EXPECT_EQ(outcome.exit_code, 0);
  return outcome.out;
}

// The long flags at the start of the lines of a help text.
std::set<std::string> FlagsIn(const std::string& help) {
  std::set<std::string> flags;
  for (size_t begin = 0; begin < help.size();) {
    size_t end = help.find('\n', begin);
    if (end == std::string::npos) end = help.size();
    const std::string line = help.substr(begin, end - begin);
    const size_t dashes = line.find("--");
    if (line.rfind("  -", 0) == 0 && dashes != std::string::npos) {
      const size_t stop = line.find_first_of(" ,", dashes);
      flags.insert(line.substr(dashes, stop - dashes));
    }
    begin = end + 1;
  }
  return flags;
}

std::string ReadSource(const std::string& path) {
  std::ifstream stream(BALEEN_SOURCE_DIR "/" + path);
  EXPECT_TRUE(stream) << path;
  return {std::istreambuf_iterator<char>(stream), {}};
}

// Whether `text` holds the flag and not only a longer one that begins with it. `prefix` is what
// the file writes instead of the two dashes.
bool Mentions(const std::string& text, const std::string& flag, const std::string& prefix) {
  const std::string spelled = prefix + flag.substr(2);
  for (size_t at = text.find(spelled); at != std::string::npos; at = text.find(spelled, at + 1)) {
    const char next = at + spelled.size() < text.size() ? text[at + spelled.size()] : '\n';
    if (std::isalnum(static_cast<unsigned char>(next)) == 0 && next != '-') return true;
  }
  return false;
}

// roff writes a dash that is not a hyphen as "\-".
std::string WithoutEscapes(std::string text) {
  std::erase(text, '\\');
  return text;
}

struct Place {
  std::string path;
  std::string prefix;
};

const std::vector<Place> kPlaces = {{"docs/man/baleen.1", "--"},
                                    {"tools/completions/baleen.bash", "--"},
                                    {"tools/completions/_baleen", "--"},
                                    {"tools/completions/baleen.fish", "-l "}};

TEST(Help, ShowsTwoExamplesForEachVerb) {
  for (const Arguments& verb : kVerbs) {
    const std::string help = HelpOf(verb);
    const size_t examples = help.find("Examples:");
    ASSERT_NE(examples, std::string::npos) << verb[0];
    size_t count = 0;
    for (size_t at = examples; (at = help.find("\n  baleen ", at)) != std::string::npos; ++at) {
      ++count;
    }
    EXPECT_EQ(count, 2u) << help;
  }
}

TEST(Help, ListsTheFlagsThatAllModelsShare) {
  for (const Arguments& verb : kVerbs) {
    // These open no model to answer with.
    static const std::set<std::string> kOthers = {"doctor", "keys",     "usage",
                                                  "train",  "quantize", "convert"};
    if (kOthers.contains(verb[0]) || verb.back() == "train") continue;
    const std::set<std::string> flags = FlagsIn(HelpOf(verb));
    for (const char* flag :
         {"--threads", "--isa", "--precision", "--cache-dtype", "--memory-limit"}) {
      EXPECT_EQ(flags.count(flag), 1u) << verb[0] << ' ' << flag;
    }
  }
}

TEST(Flags, StandInTheManPageAndTheCompletions) {
  for (const Place& place : kPlaces) {
    const std::string text = WithoutEscapes(ReadSource(place.path));
    for (const Arguments& verb : kVerbs) {
      EXPECT_NE(text.find(verb.back()), std::string::npos) << place.path << ' ' << verb.back();
      for (const std::string& flag : FlagsIn(HelpOf(verb))) {
        EXPECT_TRUE(Mentions(text, flag, place.prefix)) << place.path << " lacks " << flag;
      }
    }
    // The check sees a flag that is not there, and one that only a longer one contains.
    EXPECT_FALSE(Mentions(text, "--no-such-flag", place.prefix));
    EXPECT_FALSE(Mentions(text, "--repetition", place.prefix));
  }
}

}  // namespace
}  // namespace baleen::cli_test
