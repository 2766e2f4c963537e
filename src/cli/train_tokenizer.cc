#include "cli/train_tokenizer.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/output_file.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "tokenizer/bpe_trainer.h"
#include "tokenizer/tokenizer_writer.h"
#include "tokenizer/vocabulary.h"
#include "tokenizer/word_counts.h"
#include "training/documents.h"

namespace baleen {

namespace {

struct TrainTokenizerFlags {
  std::string output;
  DocumentOptions data;
  int32_t vocab_size = 0;
  uint64_t min_count = 0;
  size_t context = 4096;
  std::string memory_limit;
  bool json = false;
};

struct CountedText {
  WordCounts words;
  uint64_t bytes = 0;
  uint64_t documents = 0;
  uint64_t passed_over = 0;  // files that are no text, documents without any
};

CountedText CountWords(const TrainTokenizerFlags& flags) {
  CountedText text{WordCounts(flags.memory_limit.empty()
                                  ? WordCounts::kDefaultMaxBytes
                                  : ParseByteCount("--memory-limit", flags.memory_limit))};
  const Documents documents(flags.data);
  Progress progress("counting words");
  for (uint32_t file = 0; file < documents.files().size(); ++file) {
    const Documents::ScanResult result =
        documents.Scan(file, [&](const DocumentPlace&, std::string_view document) {
          text.words.AddText(PreTokenizer::kDeepseekV3, document);
          text.bytes += document.size();
          ++text.documents;
        });
    text.passed_over += result.empty + (result.is_text ? 0 : 1);
    progress.Update(file + 1, documents.files().size());
  }
  if (text.documents == 0) {
    Throw(ErrorCode::kInvalidArgument, "there is no text to train on in the {} files of --data",
          documents.files().size());
  }
  return text;
}

void MakeDirectory(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) {
    Throw(ErrorCode::kInvalidArgument, "{}: cannot be made a directory: {}", path, error.message());
  }
}

int TrainTokenizer(const TrainTokenizerFlags& flags) {
  if (flags.vocab_size < kMinVocabSize) {
    Throw(ErrorCode::kInvalidArgument,
          "--vocab-size {}: 256 bytes and {} control tokens need at least {}", flags.vocab_size,
          kNumControlTokensInFront + kNumControlTokensBehind, kMinVocabSize);
  }
  MakeDirectory(flags.output);
  CountedText text = CountWords(flags);
  const uint64_t num_words = text.words.num_words();
  const uint64_t num_dropped = text.words.num_dropped();
  Progress progress("merging");
  const TrainedBpe bpe = TrainBpe(
      std::move(text.words),
      {flags.vocab_size - kNumControlTokensBehind, kNumControlTokensInFront, flags.min_count},
      [&](size_t done, size_t total) { progress.Update(done, total); });
  progress.Finish();
  WriteFile(flags.output + "/tokenizer.json", TokenizerJson(bpe));
  WriteFile(flags.output + "/tokenizer_config.json", TokenizerConfigJson(flags.context));

  const size_t vocab_size = bpe.tokens.size() + kNumControlTokensBehind;
  if (vocab_size < static_cast<size_t>(flags.vocab_size)) {
    Note(fmt::format("the text has no more pairs to merge: {} tokens, not {}", vocab_size,
                     flags.vocab_size));
  }
  if (num_dropped > 0) {
    Note(fmt::format("{} of {} words were rare and not counted; --memory-limit can be raised",
                     num_dropped, num_words));
  }
  if (flags.json) {
    PrintJson({{"vocab_size", vocab_size},
               {"merges", bpe.merges.size()},
               {"documents", text.documents},
               {"passed_over", text.passed_over},
               {"bytes", text.bytes},
               {"words", num_words},
               {"dropped_words", num_dropped}});
  } else {
    Print(fmt::format("{} tokens from {} documents, {}\n", vocab_size, text.documents,
                      HumanBytes(text.bytes)));
  }
  return 0;
}

}  // namespace

void AddTrainTokenizer(Verb& tokenizer) {
  Verb verb = tokenizer.AddVerb("train", "Make a tokenizer of DeepSeek-V3's kind from texts");
  const auto flags = std::make_shared<TrainTokenizerFlags>();
  verb.Add("OUTPUT", flags->output, "Directory to write tokenizer.json and its config to")
      .Required();
  verb.Add("--data", flags->data.paths,
           "Text or JSONL file, directory, or glob; may be given several times")
      .Type("PATH")
      .Required();
  verb.Add("--vocab-size", flags->vocab_size, "All tokens, control tokens included")
      .Type("N")
      .Range(1, static_cast<double>(Vocabulary::kMaxTokens))
      .Required();
  verb.Add("--text-field", flags->data.text_field, "Field of a JSON line with the text")
      .Type("NAME");
  verb.Add("--separator", flags->data.separator, "What stands between documents of a text file")
      .Type("TEXT");
  verb.Add("--min-count", flags->min_count, "Pairs that come less often are not merged").Type("N");
  verb.Add("--context", flags->context, "Longest context, for tokenizer_config.json").Type("N");
  verb.Add("--memory-limit", flags->memory_limit, "For counting words; default 1GiB").Type("BYTES");
  verb.AddSwitch("--json", flags->json, "Print a JSON object");
  verb.SetExamples({"baleen tokenizer train out --data code.jsonl --vocab-size 8192",
                    "writes out/tokenizer.json and out/tokenizer_config.json"},
                   {"baleen tokenizer train out --data 'src/**/*.py' --vocab-size 4096",
                    "from the files that a glob finds"});
  verb.SetAction([flags] { return TrainTokenizer(*flags); });
}

}  // namespace baleen
