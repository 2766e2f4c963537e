// checkpoint/gguf_export.h: writes an opened model as one GGUF file, as llama.cpp's converter
// would.
//
// docs/formats/gguf.md says which tensor gets which type. MTP layers are left out, as there.
#ifndef BALEEN_CHECKPOINT_GGUF_EXPORT_H_
#define BALEEN_CHECKPOINT_GGUF_EXPORT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "checkpoint/checkpoint.h"
#include "formats/gguf_writer.h"
#include "tensor/dtype.h"

namespace baleen {

struct GgufExportOptions {
  DType type = DType::kQ8_0;  // of most matrices: kQ8_0, kQ4_0 or kBF16
  size_t num_threads = 1;
  bool sync = true;  // wait for the disk at the end
  // Called now and then with bytes of the file, by one thread at a time.
  std::function<void(uint64_t done, uint64_t total)> on_progress;
  std::function<bool()> cancelled;  // asked now and then, by any thread
};

struct GgufExportResult {
  uint64_t bytes = 0;  // of the file
  size_t tensors = 0;
};

// Streams: memory is a few megabytes a thread, whatever the size of the model. Matrices that have
// the wanted type already are copied bit by bit; the others are rounded from their exact values.
// Errors: kUnimplemented, something that such a file cannot say (rather than a file that computes
// something else); kCorruption, a weight that is not a finite number or too large for the type;
// kCancelled; those of OutputFile. Then there is no file.
GgufExportResult ExportGguf(const Checkpoint& checkpoint, const std::string& path,
                            const GgufExportOptions& options);

// Its keys; a part of ExportGguf.
GgufKeys GgufExportKeys(const Checkpoint& checkpoint, DType type);

}  // namespace baleen

#endif  // BALEEN_CHECKPOINT_GGUF_EXPORT_H_
