#include "training/parameters.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>

#include "base/error.h"
#include "base/machine.h"
#include "base/random.h"

namespace baleen {

namespace {

// Visits every tensor that a config asks for, in one order; what the visitor returns becomes the
// weights.
struct Visitor {
  std::function<Matrix(const std::string& name, size_t rows, size_t cols)> matrix;
  std::function<Vector(const std::string& name, size_t size)> vector;
  std::function<Vector(const std::string& name, size_t size)> router_bias;
};

MlpWeights VisitMlp(const std::string& prefix, size_t hidden, size_t width, const Visitor& visit) {
  MlpWeights w;
  w.gate_proj = visit.matrix(prefix + "gate_proj.weight", width, hidden);
  w.up_proj = visit.matrix(prefix + "up_proj.weight", width, hidden);
  w.down_proj = visit.matrix(prefix + "down_proj.weight", hidden, width);
  return w;
}

AttentionWeights VisitAttention(const ModelConfig& c, const std::string& prefix,
                                const Visitor& visit) {
  const size_t h = c.num_attention_heads, hidden = c.hidden_size;
  AttentionWeights w;
  if (c.q_lora_rank == 0) {
    w.q_proj = visit.matrix(prefix + "q_proj.weight", h * c.qk_head_dim(), hidden);
  } else {
    w.q_a_proj = visit.matrix(prefix + "q_a_proj.weight", c.q_lora_rank, hidden);
    w.q_a_layernorm = visit.vector(prefix + "q_a_layernorm.weight", c.q_lora_rank);
    w.q_b_proj = visit.matrix(prefix + "q_b_proj.weight", h * c.qk_head_dim(), c.q_lora_rank);
  }
  w.kv_a_proj_with_mqa = visit.matrix(prefix + "kv_a_proj_with_mqa.weight", c.latent_dim(), hidden);
  w.kv_a_layernorm = visit.vector(prefix + "kv_a_layernorm.weight", c.kv_lora_rank);
  w.kv_b_proj = visit.matrix(prefix + "kv_b_proj.weight", h * (c.qk_nope_head_dim + c.v_head_dim),
                             c.kv_lora_rank);
  w.o_proj = visit.matrix(prefix + "o_proj.weight", hidden, h * c.v_head_dim);
  return w;
}

LayerWeights VisitLayer(const ModelConfig& c, size_t layer, bool is_moe, const Visitor& visit) {
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  LayerWeights w;
  w.input_layernorm = visit.vector(prefix + "input_layernorm.weight", c.hidden_size);
  w.attention = VisitAttention(c, prefix + "self_attn.", visit);
  w.post_attention_layernorm =
      visit.vector(prefix + "post_attention_layernorm.weight", c.hidden_size);
  if (!is_moe) {
    w.mlp = VisitMlp(prefix + "mlp.", c.hidden_size, c.intermediate_size, visit);
    return w;
  }
  w.moe.router = visit.matrix(prefix + "mlp.gate.weight", c.n_routed_experts, c.hidden_size);
  if (c.topk_method == TopkMethod::kNoauxTc) {
    w.moe.e_score_correction_bias =
        visit.router_bias(prefix + "mlp.gate.e_score_correction_bias", c.n_routed_experts);
  }
  for (size_t e = 0; e < c.n_routed_experts; ++e) {
    w.moe.experts.push_back(VisitMlp(prefix + "mlp.experts." + std::to_string(e) + ".",
                                     c.hidden_size, c.moe_intermediate_size, visit));
  }
  if (c.n_shared_experts > 0) {
    w.moe.shared = VisitMlp(prefix + "mlp.shared_experts.", c.hidden_size,
                            c.n_shared_experts * c.moe_intermediate_size, visit);
  }
  return w;
}

ModelWeights Visit(const ModelConfig& c, bool tied, const Visitor& visit) {
  ModelWeights w;
  w.embed_tokens = visit.matrix("model.embed_tokens.weight", c.vocab_size, c.hidden_size);
  for (size_t l = 0; l < c.num_hidden_layers; ++l) {
    w.layers.push_back(VisitLayer(c, l, c.IsMoe(l), visit));
  }
  w.norm = visit.vector("model.norm.weight", c.hidden_size);
  w.lm_head = tied ? visit.matrix("model.embed_tokens.weight", c.vocab_size, c.hidden_size)
                   : visit.matrix("lm_head.weight", c.vocab_size, c.hidden_size);
  for (size_t i = 0; i < c.num_nextn_predict_layers; ++i) {
    const size_t layer = c.num_hidden_layers + i;
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    MtpWeights mtp;
    mtp.layer = VisitLayer(c, layer, c.n_routed_experts > 0, visit);
    mtp.enorm = visit.vector(prefix + "enorm.weight", c.hidden_size);
    mtp.hnorm = visit.vector(prefix + "hnorm.weight", c.hidden_size);
    mtp.eh_proj = visit.matrix(prefix + "eh_proj.weight", c.hidden_size, 2 * c.hidden_size);
    mtp.shared_head_norm = visit.vector(prefix + "shared_head.norm.weight", c.hidden_size);
    mtp.embed_tokens = w.embed_tokens;
    mtp.shared_head = w.lm_head;
    w.mtp.push_back(std::move(mtp));
  }
  return w;
}

struct Spec {
  std::string name;
  Shape shape;
};

std::vector<Spec> Specs(const ModelConfig& config, bool tied) {
  std::vector<Spec> specs;
  const auto add = [&](const std::string& name, Shape shape) {
    if (tied && !specs.empty() && name == specs[0].name) return;
    specs.push_back({name, std::move(shape)});
  };
  Visit(config, tied,
        {.matrix =
             [&](const std::string& name, size_t rows, size_t cols) {
               add(name, {rows, cols});
               return Matrix{};
             },
         .vector =
             [&](const std::string& name, size_t size) {
               add(name, {size});
               return Vector{};
             },
         .router_bias = [](const std::string&, size_t) { return Vector{}; }});
  return specs;
}

// Matrices that are read as they are whatever the products: rows of the embedding are looked up,
// and a rounded router would flip experts.
bool StaysWide(const std::string& name) {
  return name == "model.embed_tokens.weight" || name.ends_with(".mlp.gate.weight");
}

Matrix WideMatrix(const float* data, size_t rows, size_t cols) {
  return {.dtype = DType::kF32,
          .data = reinterpret_cast<const std::byte*>(data),
          .rows = rows,
          .cols = cols};
}

// FNV-1a: the stream of a tensor's random numbers.
uint64_t StreamOf(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

}  // namespace

Parameters::Parameters(const ModelConfig& config, bool tied, Products products)
    : config_(config), tied_(tied), products_(products) {
  const std::vector<Spec> specs = Specs(config, tied);
  size_t total = 0, num_biases = 0;
  for (const Spec& spec : specs) total += NumElements(spec.shape);
  for (std::vector<float>* floats : {&values_, &gradients_}) {
    floats->reserve(total);
    AdviseHugePages(floats->data(), total * sizeof(float));
    floats->resize(total);
  }
  std::unordered_map<std::string, size_t> by_name;
  size_t used = 0;
  for (const Spec& spec : specs) {
    const size_t size = NumElements(spec.shape);
    by_name[spec.name] = list_.size();
    list_.push_back({.name = spec.name,
                     .shape = spec.shape,
                     .value = std::span(values_).subspan(used, size),
                     .grad = std::span(gradients_).subspan(used, size)});
    used += size;
  }
  if (config.n_routed_experts > 0) num_moe_layers_ = config.num_nextn_predict_layers;
  for (size_t l = 0; l < config.num_hidden_layers; ++l) num_moe_layers_ += config.IsMoe(l) ? 1 : 0;
  biases_.resize(num_moe_layers_ * config.n_routed_experts);
  rounded_.reserve(list_.size() + 1);

  bool embedding_seen = false;
  const auto vector_of = [&](const std::string& name, size_t) -> Vector {
    return list_[by_name[name]].value.data();
  };
  forward_ = Visit(config, tied,
                   {.matrix = [&](const std::string& name, size_t rows, size_t cols) -> Matrix {
                      const Parameter& parameter = list_[by_name[name]];
                      // With a tied head the embedding is asked for twice: to be looked up, then as
                      // the head.
                      const bool is_head = name == list_[0].name && embedding_seen;
                      embedding_seen = true;
                      if (products_ == Products::kF32 || (StaysWide(name) && !is_head)) {
                        return WideMatrix(parameter.value.data(), rows, cols);
                      }
                      Rounded& copy = rounded_.emplace_back();
                      copy.value = parameter.value.data();
                      copy.rows = rows;
                      copy.cols = cols;
                      copy.there.resize(rows * cols);
                      copy.back.resize((rows + 1) / 2 * cols);
                      const auto* data = reinterpret_cast<const std::byte*>(copy.there.data());
                      rounded_by_data_[data] = rounded_.size() - 1;
                      return {.dtype = DType::kBF16, .data = data, .rows = rows, .cols = cols};
                    },
                    .vector = vector_of,
                    .router_bias = [&](const std::string& name, size_t size) -> Vector {
                      const auto bias = std::span(biases_).subspan(num_biases, size);
                      num_biases += size;
                      router_biases_.push_back(bias);
                      router_bias_names_.push_back(name);
                      return bias.data();
                    }});
  grads_ = Visit(config, tied,
                 {.matrix =
                      [&](const std::string& name, size_t rows, size_t cols) {
                        return WideMatrix(list_[by_name[name]].grad.data(), rows, cols);
                      },
                  .vector = [&](const std::string& name, size_t) -> Vector {
                    return list_[by_name[name]].grad.data();
                  },
                  .router_bias = [](const std::string&, size_t) { return Vector{}; }});
}

void Parameters::Initialize(uint64_t seed, double range) {
  for (Parameter& parameter : list_) {
    if (!parameter.is_matrix()) {
      std::ranges::fill(parameter.value, 1.0f);
      continue;
    }
    // Box and Muller: two uniform numbers give two normal ones.
    Random random(seed, StreamOf(parameter.name));
    for (size_t i = 0; i < parameter.value.size(); i += 2) {
      const double radius = range * std::sqrt(-2 * std::log(1 - random.UniformDouble()));
      const double angle = 2 * std::numbers::pi * random.UniformDouble();
      parameter.value[i] = static_cast<float>(radius * std::cos(angle));
      if (i + 1 < parameter.value.size()) {
        parameter.value[i + 1] = static_cast<float>(radius * std::sin(angle));
      }
    }
  }
  std::ranges::fill(biases_, 0.0f);
}

kernels::BackwardWeight Parameters::Backward(const Matrix& forward) const {
  const auto found = rounded_by_data_.find(forward.data);
  if (found == rounded_by_data_.end()) {
    return {.type = kernels::ActivationType::kF32,
            .data = forward.data,
            .rows = forward.rows,
            .cols = forward.cols};
  }
  return {.type = kernels::ActivationType::kBF16,
          .data = rounded_[found->second].back.data(),
          .rows = forward.rows,
          .cols = forward.cols};
}

ModelWeights Parameters::Masters() {
  std::unordered_map<std::string, float*> by_name;
  for (const Parameter& parameter : list_) by_name[parameter.name] = parameter.value.data();
  size_t num_biases = 0;
  return Visit(config_, tied_,
               {.matrix = [&](const std::string& name, size_t rows,
                              size_t cols) { return WideMatrix(by_name[name], rows, cols); },
                .vector = [&](const std::string& name, size_t) -> Vector { return by_name[name]; },
                .router_bias = [&](const std::string&, size_t) -> Vector {
                  return router_biases_[num_biases++].data();
                }});
}

void Parameters::ClearGradients() { std::ranges::fill(gradients_, 0.0f); }

void Parameters::Publish(kernels::KernelContext& ctx) {
  for (Rounded& copy : rounded_) {
    ForRows(copy.rows, ctx, [&](size_t begin, size_t end) {
      ctx.table.pack(copy.value + begin * copy.cols, (end - begin) * copy.cols,
                     kernels::ActivationType::kBF16,
                     reinterpret_cast<std::byte*>(copy.there.data() + begin * copy.cols));
    });
    kernels::PackRowPairs(copy.value, copy.rows, copy.cols, copy.back.data(), ctx);
  }
}

uint64_t Parameters::Bytes(const ModelConfig& config, bool tied, Products products) {
  uint64_t bytes = 0;
  for (const Spec& spec : Specs(config, tied)) {
    const uint64_t size = NumElements(spec.shape);
    const bool rounded =
        products == Products::kBF16 && spec.shape.size() == 2 && (tied || !StaysWide(spec.name));
    bytes += size * (8 + (rounded ? 4 : 0));
  }
  return bytes;
}

}  // namespace baleen
