// training/dataset.h: where training gets its tokens: an endless, shuffled, seekable stream of
// packed sequences, and a held-out text beside it.
//
// Documents follow one another without a gap: BOS (where the tokenizer has one), the document, EOS.
// They are cut into sequences wherever one is full, without masks between documents, as V3 was
// trained. The last token of a sequence is the first of the next, so every token is predicted once.
//
// Everything follows from the files, the options and the seed: Next gives the same tokens on every
// machine, and Seek(Position()) goes on as if nothing had happened.
//
// Data may be larger than memory: opening reads it once, and keeps 32 bytes a document; training
// reads each document when its turn comes. Near-duplicates go before anything else, so that what is
// held out has none in what is trained on. Which documents are held out follows from their text.
#ifndef BALEEN_TRAINING_DATASET_H_
#define BALEEN_TRAINING_DATASET_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace baleen {

// One thing that was read, for the provenance of the model.
struct DataSource {
  std::string path;  // as it was given
  // Of the file; of a directory or a glob, of what `sha256sum` prints for its files in order.
  std::string sha256;
  uint64_t bytes = 0;
  uint64_t documents = 0;
};

struct DatasetInfo {
  std::vector<DataSource> sources;
  uint64_t documents = 0;  // for training
  uint64_t tokens = 0;     // of one pass over them
  uint64_t held_out_documents = 0;
  uint64_t held_out_tokens = 0;
  uint64_t held_out_bytes = 0;     // of text, for bits per byte
  uint64_t dropped_documents = 0;  // near-duplicates, empty, not text
  // Differs when other tokens would come: a checkpoint goes on only with its own data.
  std::string fingerprint;
};

// Threads: one at a time.
class Dataset {
 public:
  virtual ~Dataset() = default;

  virtual const DatasetInfo& info() const = 0;

  // The next sequence: fills `tokens`, of which the last is to be predicted only.
  virtual void Next(std::span<int32_t> tokens) = 0;

  // Where the stream stands, as one line of text, and back there. Error{kCorruption}, a position
  // that this stream never gave.
  virtual std::string Position() const = 0;
  virtual void Seek(const std::string& position) = 0;

  // The held-out documents, packed in the order of the files; empty if none were held out.
  virtual std::span<const int32_t> held_out() const = 0;
};

struct DatasetOptions {
  std::vector<std::string> paths;  // files, directories and globs, see documents.h
  uint64_t seed = 0;
  double held_out_share = 0.01;  // of the documents; the same ones whatever the seed
  // Fill-in-the-middle at document level (fim.h), of this share of documents, drawn anew each time
  // that a document comes.
  double fim_rate = 0;
  // Documents begin with BOS and end with EOS; -1: without.
  int32_t bos_token_id = -1;
  int32_t eos_token_id = -1;
  double fim_line_share = 0;        // of these, so many have one line as their middle
  std::string text_field = "text";  // of JSON lines
  std::string separator;            // between documents of plain text; empty: there is none
  // Longer documents become several, cut after a line if possible; 0: they stay whole. With short
  // sequences, a document with a hole is of no use unless it fits into one.
  size_t max_document_bytes = 0;
  bool drop_near_duplicates = true;
};

// Errors: kNotFound, kInvalidArgument (nothing to train on, a share outside [0, 1), no FIM tokens
// in the vocabulary), kCorruption (files that are not text).
// The tokenizer must outlive the data set.
std::unique_ptr<Dataset> OpenDataset(const DatasetOptions& options, const Tokenizer& tokenizer);

}  // namespace baleen

#endif  // BALEEN_TRAINING_DATASET_H_
