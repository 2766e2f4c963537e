#include "checkpoint/repack.h"

#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "base/error.h"
#include "tensor/block_tiles.h"

namespace baleen {

namespace {

TileJob JobOfBlocks(const Matrix& source) {
  TileJob job = {.layout = TileLayoutOf(source.dtype, source.cols), .rows = source.rows};
  job.unpack = [source](size_t first_row, size_t num_rows, TileRowBuffers& out) {
    for (size_t r = 0; r < num_rows; ++r) {
      UnpackRow(source.dtype, source.row(first_row + r), source.cols, r, out);
    }
  };
  job.mapped_sources = {{source.data, source.size_bytes()}};
  return job;
}

TileJob JobOfGptq(std::shared_ptr<const GptqTensor> tensor) {
  TileJob job = {.layout = LayoutOf(*tensor), .rows = tensor->shape().rows};
  for (const TensorView* view : {&tensor->qweight(), &tensor->qzeros(), &tensor->scales()}) {
    job.mapped_sources.push_back({view->data, view->size_bytes()});
  }
  job.unpack = [tensor = std::move(tensor)](size_t first_row, size_t num_rows,
                                            TileRowBuffers& out) {
    tensor->Read(first_row, num_rows, out.codes.data(), out.scales.data(),
                 out.zeros.empty() ? nullptr : out.zeros.data());
  };
  return job;
}

class Collector {
 public:
  explicit Collector(const PackedMatrices& packed) : packed_(packed) {}

  // A matrix that is a kind of its own, or one that was added before.
  void Add(Matrix& matrix) {
    if (matrix.empty() || matrix.is_tiled()) return;
    const auto packed = packed_.find(matrix.data);
    if (packed == packed_.end() && !IsBlockType(matrix.dtype)) return;
    const auto [known, is_new] = job_of_.try_emplace(matrix.data, jobs_.size());
    if (is_new) {
      jobs_.push_back(packed == packed_.end() ? JobOfBlocks(matrix) : JobOfGptq(packed->second));
    }
    jobs_[known->second].targets.push_back(&matrix);
  }
  void Add(MlpWeights& mlp) {
    Add(mlp.gate_proj);
    Add(mlp.up_proj);
    Add(mlp.down_proj);
  }
  bool has_packed() const { return !packed_.empty(); }
  const std::vector<TileJob>& jobs() const { return jobs_; }

 private:
  const PackedMatrices& packed_;
  std::vector<TileJob> jobs_;
  std::map<const std::byte*, size_t> job_of_;
};

void AddWeights(const ModelConfig& config, ModelWeights& weights, Collector& collector) {
  // Attention takes parts of kv_b_proj head by head; tiles can be parted at multiples of 16 rows.
  const bool part_kv_b =
      config.qk_nope_head_dim % kTileRows == 0 && config.v_head_dim % kTileRows == 0;
  const auto add_layer = [&](LayerWeights& layer) {
    AttentionWeights& a = layer.attention;
    for (Matrix* w : {&a.q_proj, &a.q_a_proj, &a.q_b_proj, &a.kv_a_proj_with_mqa, &a.o_proj}) {
      collector.Add(*w);
    }
    if (part_kv_b) collector.Add(a.kv_b_proj);
    if (config.kv_lora_rank % kTileRows == 0 && config.v_head_dim % kTileRows == 0) {
      collector.Add(a.k_b_proj);
      collector.Add(a.v_b_proj);
    }
    collector.Add(layer.mlp);
    for (MlpWeights& expert : layer.moe.experts) collector.Add(expert);
    collector.Add(layer.moe.shared);
  };
  for (LayerWeights& layer : weights.layers) add_layer(layer);
  // Nothing runs the MTP modules but tests: as they are, unless only tiles can stand for them.
  if (collector.has_packed()) {
    for (MtpWeights& mtp : weights.mtp) {
      add_layer(mtp.layer);
      collector.Add(mtp.eh_proj);
    }
  }
  // An embedding that is the head as well is read from the head's tiles.
  const bool tied = weights.lm_head.data == weights.embed_tokens.data;
  collector.Add(weights.lm_head);
  if (tied) collector.Add(weights.embed_tokens);
}

}  // namespace

void LayOutAsTiles(Checkpoint& checkpoint) {
  Collector collector(checkpoint.packed);
  AddWeights(checkpoint.config.model, checkpoint.weights, collector);
  for (const TileJob& job : collector.jobs()) {
    for (Matrix* target : job.targets) target->tiles = job.layout;
  }
}

std::string RepackWeights(Checkpoint& checkpoint, TileCacheOptions options) {
  Collector collector(checkpoint.packed);
  AddWeights(checkpoint.config.model, checkpoint.weights, collector);
  if (collector.jobs().empty()) return "";
  std::error_code ignored;
  options.model = std::filesystem::weakly_canonical(checkpoint.path.weights, ignored).string();
  std::set<std::string> files;
  for (const std::string& name : checkpoint.source->Names()) {
    files.insert(checkpoint.source->FileOf(name));
  }
  for (const std::string& file : files) options.state += FileState(file);
  RepackedTiles tiles = RepackTiles(collector.jobs(), options);
  checkpoint.weights.tiles = std::move(tiles.memory);
  checkpoint.tile_file = tiles.file;
  checkpoint.packed.clear();
  if (!tiles.created) return "";
  return fmt::format("the weights were repacked into {} ({:.1f} GB), which may be deleted",
                     tiles.file->path(), static_cast<double>(tiles.bytes) / 1e9);
}

}  // namespace baleen
