// quantize/directory.h: the GPTQ directory that a quantization writes, and the state between
// layers.
//
// All is written to DST.partial: a shard for each layer as it is done, and state.safetensors with
// the texts' residual streams, replaced after each layer. When all is there, the index, the
// configuration and the tokenizer follow, the state goes, and the directory gets its name. The
// shards of a small model are joined first.
#ifndef BALEEN_QUANTIZE_DIRECTORY_H_
#define BALEEN_QUANTIZE_DIRECTORY_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "formats/gptq.h"
#include "formats/safetensors.h"
#include "formats/safetensors_writer.h"
#include "kernels/table.h"
#include "model/forward.h"
#include "quantize/quantize.h"

namespace baleen {

class QuantizedDirectory {
 public:
  struct State {
    std::shared_ptr<const SafetensorsFile> file;
    size_t next_layer = 0;
    std::string tensors_json;

    // Error{kCorruption} unless the file has that many values of this name.
    void Load(const std::string& name, std::vector<float>& values) const;
  };
  using Values = std::vector<std::pair<std::string, const std::vector<float>*>>;

  // Error{kInvalidArgument} if something is there already.
  explicit QuantizedDirectory(const std::string& destination);

  // What it will hold: first the matrices that are quantized, then all other tensors of the source.
  // FP8 becomes BF16, for GPTQ directories have no FP8.
  void AddQuantized(size_t layer, const std::string& name, const GptqShape& shape);
  void AddKept(const WeightSource& source, const Model& model);

  // Creates DST.partial, or finds one of the same fingerprint. `state_bytes` is what SaveState will
  // be given. Errors: kInvalidArgument, it is of other work; kResourceExhausted, the disk is too
  // small for all that is to come.
  void Open(const std::string& fingerprint, uint64_t state_bytes);

  std::unique_ptr<SafetensorsWriter> OpenLayer(size_t layer) const;
  void WriteKeptOfLayer(size_t layer, SafetensorsWriter& writer, const WeightSource& source) const;
  void WriteRest(const WeightSource& source) const;

  std::optional<State> LoadState() const;
  void SaveState(size_t next_layer, const std::string& tensors_json, const Values& values) const;

  // Adds everything beside the weights and gives the directory its name. `kept`: as in
  // QuantizationConfigJson.
  void Finish(const std::string& source_directory, const QuantizeOptions& options,
              const std::vector<std::string>& kept, const std::string& report_json,
              const std::string& report_html) const;

  const std::string& partial() const { return partial_; }
  uint64_t source_bytes() const { return source_bytes_; }
  uint64_t total_bytes() const;
  uint64_t QuantizedWeights(size_t layer) const { return shards_[layer].quantized_weights; }

 private:
  struct Shard {
    std::vector<TensorSpec> tensors;
    std::vector<std::string> kept;  // of these, tensors that are copied
    uint64_t quantized_weights = 0;
  };

  std::string ShardName(size_t index) const;
  void WriteKept(const Shard& shard, SafetensorsWriter& writer, const WeightSource& source) const;
  void WriteIndex() const;
  // Makes one file of the shards of a small model.
  void JoinShards() const;

  std::string destination_, partial_;
  std::vector<Shard> shards_;  // one a layer; the last: all else
  std::vector<std::string> quantized_;
  uint64_t source_bytes_ = 0;
};

// config.json's quantization_config, which is also quantize_config.json. `kept` names the linear
// layers that stay although others of their kind do not (QuantizeReport::kept).
std::string QuantizationConfigJson(const QuantizeOptions& options,
                                   const std::vector<std::string>& kept);

}  // namespace baleen

#endif  // BALEEN_QUANTIZE_DIRECTORY_H_
