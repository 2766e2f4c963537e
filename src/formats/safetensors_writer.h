// formats/safetensors_writer.h: writes safetensors files, alone or as the shards of a checkpoint.
//
// Names, types and shapes are declared first, data follows in pieces and in any order of tensors,
// so a model larger than memory can be written. The space is reserved at the start: a disk that is
// too small is found before hours of work, not after. A file appears under its name only when it
// is whole (base/output_file.h).
#ifndef BALEEN_FORMATS_SAFETENSORS_WRITER_H_
#define BALEEN_FORMATS_SAFETENSORS_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/output_file.h"
#include "formats/tensor_spec.h"

namespace baleen {

struct SafetensorsOptions {
  // transformers refuses to load a file without this "format".
  std::map<std::string, std::string> metadata = {{"format", "pt"}};
  // Waits for the disk before the file gets its name, so that it is whole even after a power cut.
  bool sync = true;
};

// One file. Tensors lie in it by size of element, largest first, then by name (as the reference
// writes them), so each is aligned to its element.
// Threads: Write for different tensors may run at the same time; else one at a time.
class SafetensorsWriter {
 public:
  // Names must be unique and UTF-8. Errors: those of OutputFile, here and below.
  SafetensorsWriter(std::string path, std::vector<TensorSpec> tensors,
                    const SafetensorsOptions& options = {});

  // The next bytes of that tensor, which must be declared and have room for them.
  void Write(std::string_view name, std::span<const std::byte> bytes);

  // All tensors must be complete. Gives the file its name, replacing an older one.
  void Finish();

 private:
  struct Region {
    uint64_t offset;  // in the file, of the next byte
    uint64_t end;
  };

  OutputFile file_;
  bool sync_;
  std::unordered_map<std::string, Region> regions_;
};

// A checkpoint directory: model.safetensors, or, if that would be larger than max_shard_bytes,
// model-00001-of-0000N.safetensors ... and model.safetensors.index.json, which is written last.
// Tensors fill the shards in the order given (a tensor larger than a shard has one for itself).
// Threads: as SafetensorsWriter.
class CheckpointWriter {
 public:
  static constexpr uint64_t kDefaultShardBytes = 5'000'000'000;

  // The directory must exist and hold no model yet (kInvalidArgument).
  CheckpointWriter(const std::string& directory, std::vector<TensorSpec> tensors,
                   const SafetensorsOptions& options = {},
                   uint64_t max_shard_bytes = kDefaultShardBytes);
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  void Write(std::string_view name, std::span<const std::byte> bytes);
  void Finish();

 private:
  void WriteIndex() const;

  std::string directory_;
  uint64_t total_bytes_ = 0;
  bool finished_ = false;
  std::vector<std::string> shard_names_;
  std::vector<std::unique_ptr<SafetensorsWriter>> shards_;
  std::map<std::string, size_t, std::less<>> shard_of_;  // tensor name -> index of its shard
};

}  // namespace baleen

#endif  // BALEEN_FORMATS_SAFETENSORS_WRITER_H_
