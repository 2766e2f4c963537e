// bench/kernels_bench.cc: kernels against the roofs of this machine, and against oneDNN.
//
//   kernels_bench [--threads=N] [--benchmark_filter=REGEX]
//
// Shapes are DeepSeek-V2-Lite's. Weights are taken from a pool far larger than the caches, so that
// each product reads them from memory as a model does. Counters: `GB/s` of weights or cache rows,
// `GFLOP/s`, and the share of the roof, which is measured when the program starts. Give oneDNN the
// same threads by OMP_NUM_THREADS. With one thread all rates are by CPU time, which other work on
// the machine disturbs least; with more, by the clock on the wall. Compare figures of one run only.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <dnnl.hpp>
#include <map>
#include <numeric>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/random.h"
#include "kernels/kernels.h"
#include "kernels/registry.h"
#include "kernels/roof.h"
#include "tensor/block_tiles.h"

namespace baleen::kernels {

namespace {

constexpr size_t kWeightPoolBytes = size_t{256} << 20;

struct Shape {
  const char* name;
  size_t N, K;
};
constexpr Shape kShapes[] = {{"expert_gate", 1408, 2048},
                             {"expert_down", 2048, 1408},
                             {"dense_down", 2048, 10944},
                             {"q_proj", 3072, 2048}};

size_t num_threads = std::max(1u, std::thread::hardware_concurrency());

ThreadPool& Pool() {
  static ThreadPool pool(num_threads);
  return pool;
}

template <typename Body>
void Register(const std::string& name, const Body& body) {
  auto* bench = benchmark::RegisterBenchmark(name.c_str(), body);
  if (num_threads > 1) bench->UseRealTime();
}

const baleen::Roof& RoofOf(const KernelTable& table) {
  static std::map<const KernelTable*, baleen::Roof> roofs;
  const auto [entry, added] = roofs.try_emplace(&table);
  if (added) entry->second = MeasureRoof(Pool(), table);
  return entry->second;
}

// Random values of about one, whatever the type they are read as.
std::vector<std::byte> RandomBytes(size_t count, DType dtype) {
  std::vector<std::byte> bytes(count);
  Random random(count);
  const size_t size = DTypeSize(dtype);
  for (size_t i = 0; i + size <= count; i += size) {
    const float value = random.Uniform() - 0.5f;
    const uint16_t bf16 = F32ToBf16(value);
    const uint8_t f8 = F32ToF8E4M3(value);
    const void* source = size == 4   ? static_cast<const void*>(&value)
                         : size == 2 ? static_cast<const void*>(&bf16)
                                     : static_cast<const void*>(&f8);
    std::memcpy(bytes.data() + i, source, size);
  }
  return bytes;
}

// One after another, slices of the pool of weights.
class WeightPool {
 public:
  WeightPool(DType dtype, size_t rows, size_t cols)
      : bytes_(RandomBytes(kWeightPoolBytes, dtype)),
        scales_((rows / kF8Block + 1) * (cols / kF8Block + 1), 0.5f) {
    matrix_ = {.dtype = dtype, .rows = rows, .cols = cols, .scales = scales_.data()};
  }
  Matrix Next() {
    if (used_ + matrix_.size_bytes() > bytes_.size()) used_ = 0;
    Matrix next = matrix_;
    next.data = bytes_.data() + used_;
    used_ += matrix_.size_bytes();
    return next;
  }

 private:
  std::vector<std::byte> bytes_;
  std::vector<float> scales_;
  Matrix matrix_;
  size_t used_ = 0;
};

// The same of tiles: codes at random, scales that keep results small.
class TilePool {
 public:
  TilePool(const TileLayout& layout, size_t rows)
      : matrix_{.rows = rows, .cols = layout.cols, .tiles = layout},
        bytes_(kWeightPoolBytes + kTileAlignment) {
    Random random(rows);
    data_ = bytes_.data() + (-reinterpret_cast<uintptr_t>(bytes_.data())) % kTileAlignment;
    for (size_t i = 0; i + 8 <= kWeightPoolBytes; i += 8) {
      const uint64_t word = random.Next();
      std::memcpy(data_ + i, &word, sizeof(word));
    }
    const uint16_t scale = F32ToF16(0.01f);
    for (size_t t = 0; t + layout.tile_bytes() <= kWeightPoolBytes; t += layout.tile_bytes()) {
      for (size_t i = 0; i < layout.factors_offset(); i += 2) {
        std::memcpy(data_ + t + i, &scale, sizeof(scale));
      }
    }
  }
  Matrix Next() {
    if (used_ + matrix_.size_bytes() > kWeightPoolBytes) used_ = 0;
    Matrix next = matrix_;
    next.data = data_ + used_;
    used_ += matrix_.size_bytes();
    return next;
  }

 private:
  Matrix matrix_;
  std::vector<std::byte> bytes_;
  std::byte* data_;
  size_t used_ = 0;
};

// Counters of a run that read `bytes` and did `products` multiply-adds an iteration. The share is
// of the nearer roof: that of reading or that of arithmetic.
void Report(benchmark::State& state, double bytes, double products, double read_roof,
            double gflops_roof) {
  using benchmark::Counter;
  const double iterations = static_cast<double>(state.iterations());
  const double roof_seconds =
      std::max(bytes / (read_roof * 1e9), 2 * products / (gflops_roof * 1e9));
  state.counters["GB/s"] = Counter(bytes * iterations / 1e9, Counter::kIsRate);
  state.counters["GFLOP/s"] = Counter(2 * products * iterations / 1e9, Counter::kIsRate);
  state.counters["roof_share"] = Counter(roof_seconds * iterations, Counter::kIsRate);
}

void BenchMatMul(benchmark::State& state, const KernelTable& table, const Shape& shape, DType dtype,
                 size_t M, bool bf16) {
  KernelContext ctx{.table = table, .pool = Pool(), .allow_bf16_products = bf16};
  WeightPool weights(dtype, shape.N, shape.K);
  const std::vector<float> x(M * shape.K, 0.25f);
  std::vector<float> y(M * shape.N);
  const ActivationType type = ctx.FormFor(weights.Next()).type;
  for (auto _ : state) {
    ArenaScope scope(ctx.arena);
    Operand operand(x.data(), M, shape.K, ctx);
    MatMul(operand, weights.Next(), y.data(), ctx);
  }
  const baleen::Roof& roof = RoofOf(table);
  Report(state, static_cast<double>(weights.Next().size_bytes()),
         static_cast<double>(M * shape.N * shape.K), roof.read_gb_per_s,
         type == ActivationType::kBF16 ? roof.gflops_bf16 : roof.gflops_f32);
}

void BenchTiles(benchmark::State& state, const KernelTable& table, const TileLayout& layout,
                size_t rows, size_t M, bool i8) {
  KernelContext ctx{.table = table, .pool = Pool(), .allow_i8_products = i8};
  TilePool weights(layout, rows);
  Random random(M);
  std::vector<float> x(M * layout.cols);
  for (float& value : x) value = random.Uniform() - 0.5f;
  std::vector<float> y(M * rows);
  for (auto _ : state) {
    ArenaScope scope(ctx.arena);
    Operand operand(x.data(), M, layout.cols, ctx);
    MatMul(operand, weights.Next(), y.data(), ctx);
  }
  const baleen::Roof& roof = RoofOf(table);
  Report(state, static_cast<double>(weights.Next().size_bytes()),
         static_cast<double>(M * rows * layout.cols), roof.read_gb_per_s,
         i8 ? roof.gops_i8 : roof.gflops_f32);
}

// A layer of V2-Lite's experts: each of `num_tokens` tokens goes to 6 of 64, drawn at random, and
// to the shared one. The roof is the sum over the experts that are visited, as for a model.
void BenchExperts(benchmark::State& state, const KernelTable& table, size_t bits, size_t group_cols,
                  size_t num_tokens) {
  constexpr size_t kHidden = 2048, kWidth = 1408, kExperts = 64, kChosen = 6;
  KernelContext ctx{.table = table, .pool = Pool(), .roof = RoofOf(table)};
  TilePool in({.cols = kHidden, .bits = bits, .group_cols = group_cols}, kWidth);
  TilePool down({.cols = kWidth, .bits = bits, .group_cols = group_cols}, kHidden);
  Random random(num_tokens);
  std::vector<std::vector<int32_t>> rows(kExperts);
  for (size_t t = 0; t < num_tokens; ++t) {
    for (size_t chosen = 0; chosen < kChosen;) {
      auto& expert = rows[random.Below(kExperts)];
      if (!expert.empty() && expert.back() == static_cast<int32_t>(t)) continue;
      expert.push_back(static_cast<int32_t>(t));
      ++chosen;
    }
  }
  std::vector<int32_t> all(num_tokens);
  std::iota(all.begin(), all.end(), 0);
  std::vector<float> x(num_tokens * kHidden), out(x.size());
  for (float& value : x) value = random.Uniform() - 0.5f;
  for (auto _ : state) {
    ArenaScope scope(ctx.arena);
    std::vector<SwiGluGroup> groups;
    for (const auto& expert : rows) {
      if (expert.empty()) continue;
      groups.push_back({.gate = in.Next(), .up = in.Next(), .down = down.Next(), .rows = expert});
    }
    // The shared expert is two experts wide.
    for (size_t i = 0; i < 2; ++i) {
      groups.push_back({.gate = in.Next(), .up = in.Next(), .down = down.Next(), .rows = all});
    }
    Operand operand(x.data(), num_tokens, kHidden, ctx);
    GroupedSwiGlu(operand, groups, out.data(), ctx);
  }
  using benchmark::Counter;
  state.counters["GB/s"] =
      Counter(static_cast<double>(ctx.work.weight_bytes) / 1e9, Counter::kIsRate);
  state.counters["GFLOP/s"] =
      Counter(static_cast<double>(ctx.work.operations) / 1e9, Counter::kIsRate);
  state.counters["roof_share"] = Counter(ctx.work.roof_seconds, Counter::kIsRate);
}

// oneDNN on the same weights. `packed`: they are first brought into the order that oneDNN likes
// best, outside the measured time, which needs a second copy of the model.
void BenchOneDnn(benchmark::State& state, const KernelTable& table, const Shape& shape, bool bf16,
                 size_t M, bool packed) {
  using dnnl::memory;
  const auto N = static_cast<memory::dim>(shape.N), K = static_cast<memory::dim>(shape.K),
             rows = static_cast<memory::dim>(M);
  const auto type = bf16 ? memory::data_type::bf16 : memory::data_type::f32;
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const memory::desc x_desc({rows, K}, type, memory::format_tag::ab);
  const memory::desc stored({K, N}, type, memory::format_tag::ba);
  const memory::desc liked({K, N}, type, memory::format_tag::any);
  const memory::desc y_desc({rows, N}, memory::data_type::f32, memory::format_tag::ab);
  const dnnl::matmul::primitive_desc plan(
      dnnl::matmul::desc(x_desc, packed ? liked : stored, y_desc), engine);
  const dnnl::matmul product(plan);

  const DType dtype = bf16 ? DType::kBF16 : DType::kF32;
  WeightPool pool(dtype, shape.N, shape.K);
  std::vector<memory> weights;
  const size_t copies = kWeightPoolBytes / pool.Next().size_bytes();
  for (size_t i = 0; i < copies; ++i) {
    memory source(stored, engine, const_cast<std::byte*>(pool.Next().data));
    if (packed) {
      memory target(plan.weights_desc(), engine);
      dnnl::reorder(source, target).execute(stream, source, target);
      source = target;
    }
    weights.push_back(source);
  }
  auto x_bytes = RandomBytes(M * shape.K * DTypeSize(dtype), dtype);
  memory x(x_desc, engine, x_bytes.data()), y(y_desc, engine);
  size_t next = 0;
  for (auto _ : state) {
    product.execute(
        stream,
        {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, weights[next++ % copies]}, {DNNL_ARG_DST, y}});
    stream.wait();
  }
  const baleen::Roof& roof = RoofOf(table);
  Report(state, static_cast<double>(pool.Next().size_bytes()),
         static_cast<double>(M * shape.N * shape.K), roof.read_gb_per_s,
         bf16 ? roof.gflops_bf16 : roof.gflops_f32);
}

// One layer's attention of V2-Lite: 16 heads, 512 + 64 numbers a token, a cache in BF16.
struct AttentionLayer {
  static constexpr size_t kHeads = 16, kRank = 512, kRope = 64, kNope = 128, kValue = 128;
  explicit AttentionLayer(size_t num_tokens)
      : rows(RandomBytes(num_tokens * (kRank + kRope) * 2, DType::kBF16)),
        block(rows.data()),
        kv_b(DType::kBF16, kHeads * (kNope + kValue), kRank) {
    cache = {.dtype = DType::kBF16,
             .blocks = &block,
             .block_tokens = num_tokens,
             .row_bytes = (kRank + kRope) * 2};
  }
  std::vector<std::byte> rows;
  const std::byte* block;
  LatentRows cache;
  WeightPool kv_b;
};

void BenchMlaAbsorbed(benchmark::State& state, const KernelTable& table, size_t context) {
  KernelContext ctx{.table = table, .pool = Pool()};
  using L = AttentionLayer;
  const AttentionLayer layer(context);
  const std::vector<float> q(L::kHeads * L::kRank, 0.01f), rope(L::kHeads * L::kRope, 0.01f);
  std::vector<float> out(L::kHeads * L::kRank);
  for (auto _ : state) {
    MlaAbsorbed({.cache = layer.cache,
                 .kv_lora_rank = L::kRank,
                 .qk_rope_head_dim = L::kRope,
                 .scale = 0.1f,
                 .num_heads = L::kHeads,
                 .num_rows = 1,
                 .first_position = context - 1,
                 .q_latent = q.data(),
                 .q_rope = rope.data(),
                 .out = out.data()},
                ctx);
  }
  const baleen::Roof& roof = RoofOf(table);
  Report(state, static_cast<double>(layer.rows.size()),
         static_cast<double>(context * L::kHeads * (2 * L::kRank + L::kRope)), roof.read_gb_per_s,
         table.bf16_products ? roof.gflops_bf16 : roof.gflops_f32);
}

void BenchMlaDirect(benchmark::State& state, const KernelTable& table, size_t num_rows) {
  KernelContext ctx{.table = table, .pool = Pool()};
  using L = AttentionLayer;
  AttentionLayer layer(num_rows);
  const std::vector<float> q(num_rows * L::kHeads * (L::kNope + L::kRope), 0.01f);
  std::vector<float> out(num_rows * L::kHeads * L::kValue);
  const Matrix kv_b = layer.kv_b.Next();
  for (auto _ : state) {
    MlaDirect({.cache = layer.cache,
               .kv_b = kv_b,
               .qk_nope_head_dim = L::kNope,
               .qk_rope_head_dim = L::kRope,
               .v_head_dim = L::kValue,
               .scale = 0.1f,
               .num_heads = L::kHeads,
               .num_rows = num_rows,
               .first_position = 0,
               .q = q.data(),
               .out = out.data()},
              {}, ctx);
  }
  const size_t rebuilding = num_rows * (L::kNope + L::kValue) * L::kRank;
  const size_t attending = num_rows * (num_rows + 1) / 2 * (L::kNope + L::kRope + L::kValue);
  const baleen::Roof& roof = RoofOf(table);
  Report(state, static_cast<double>(layer.rows.size()),
         static_cast<double>(L::kHeads * (rebuilding + attending)), roof.read_gb_per_s,
         roof.gflops_f32);
}

void RegisterMatMuls(const KernelTable& table) {
  struct Form {
    DType dtype;
    bool bf16;
    const char* name;
  };
  constexpr Form kForms[] = {{DType::kBF16, true, "bf16_products"},
                             {DType::kBF16, false, "bf16"},
                             {DType::kF32, false, "f32"},
                             {DType::kF8E4M3, false, "f8"}};
  for (const Form& form : kForms) {
    if (form.bf16 && !table.bf16_products) continue;
    for (const Shape& shape : kShapes) {
      for (size_t M : {1, 8, 64, 512}) {
        const std::string name = std::string("matmul/") + table.name + "/" + form.name + "/" +
                                 shape.name + "/M" + std::to_string(M);
        Register(name, [&table, shape, form, M](auto& state) {
          BenchMatMul(state, table, shape, form.dtype, M, form.bf16);
        });
      }
    }
  }
}

void RegisterTiles(const KernelTable& table) {
  struct Form {
    const char* name;
    TileLayout layout;
    bool i8 = true;
    bool experts = false;
  };
  std::vector<Form> forms = {
      {"int4_g128", {.bits = 4, .group_cols = 128}, true, true},
      {"int4_g32", {.bits = 4, .group_cols = 32}, true, true},
      {"int8_g128", {.bits = 8, .group_cols = 128}, true, true},
      {"int8_g32", {.bits = 8, .group_cols = 32}, true, true},
      {"int4_g32_f32", {.bits = 4, .group_cols = 32}, false},
  };
  for (DType type : {DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kIQ4_NL, DType::kQ2_K,
                     DType::kQ3_K, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kIQ4_XS}) {
    forms.push_back({DTypeName(type), TileLayoutOf(type, 0)});
  }
  for (const Form& form : forms) {
    const std::string prefix = std::string("/") + table.name + "/" + form.name + "/";
    for (const Shape& shape : kShapes) {
      TileLayout layout = form.layout;
      layout.cols = shape.K;
      if (!layout.IsValid()) continue;
      for (size_t M : {1, 2, 4, 8, 16, 64, 512}) {
        Register("tiles" + prefix + shape.name + "/M" + std::to_string(M),
                 [&table, layout, shape, i8 = form.i8, M](auto& state) {
                   BenchTiles(state, table, layout, shape.N, M, i8);
                 });
      }
    }
    if (!form.experts) continue;
    for (size_t num_tokens : {1, 8, 16, 32, 512}) {
      Register("experts" + prefix + "tokens" + std::to_string(num_tokens),
               [&table, layout = form.layout, num_tokens](auto& state) {
                 BenchExperts(state, table, layout.bits, layout.group_cols, num_tokens);
               });
    }
  }
}

void RegisterOneDnn(const KernelTable& best) {
  for (bool bf16 : {true, false}) {
    if (bf16 && !best.bf16_products) continue;
    for (bool packed : {false, true}) {
      for (const Shape& shape : kShapes) {
        for (size_t M : {1, 8, 64, 512}) {
          const std::string name = std::string("onednn/") + (packed ? "packed/" : "stored/") +
                                   (bf16 ? "bf16/" : "f32/") + shape.name + "/M" +
                                   std::to_string(M);
          Register(name, [&best, shape, bf16, M, packed](auto& state) {
            BenchOneDnn(state, best, shape, bf16, M, packed);
          });
        }
      }
    }
  }
}

void RegisterAttention(const KernelTable& table) {
  for (size_t context : {512, 4096, 16384, 32768}) {
    const std::string name =
        std::string("mla_absorbed/") + table.name + "/context" + std::to_string(context);
    Register(name, [&table, context](auto& state) { BenchMlaAbsorbed(state, table, context); });
  }
  for (size_t rows : {512, 2048}) {
    const std::string name =
        std::string("mla_direct/") + table.name + "/rows" + std::to_string(rows);
    Register(name, [&table, rows](auto& state) { BenchMlaDirect(state, table, rows); });
  }
}

int Main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (argc > 1 && std::string_view(argv[1]).substr(0, 10) == "--threads=") {
    num_threads = std::max(1ul, std::stoul(argv[1] + 10));
    std::swap(argv[0], argv[1]);
    --argc;
    ++argv;
  }
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  std::vector<const KernelTable*> tables;
  for (const KernelChoice& choice : KernelChoices()) {
    if (!choice.declined.empty()) {
      std::printf("%s declined: %s\n", choice.name.c_str(), choice.declined.c_str());
    } else if (choice.name != "scalar") {
      tables.push_back(choice.table);
    }
  }
  for (const KernelTable* table : tables) {
    const baleen::Roof& roof = RoofOf(*table);
    std::printf("%s, %zu threads: read %.1f GB/s, F32 %.0f, BF16 %.0f GFLOP/s, I8 %.0f GOP/s\n",
                table->name, Pool().num_threads(), roof.read_gb_per_s, roof.gflops_f32,
                roof.gflops_bf16, roof.gops_i8);
    RegisterMatMuls(*table);
    RegisterTiles(*table);
    RegisterAttention(*table);
  }
  if (!tables.empty()) RegisterOneDnn(*tables.front());
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace

}  // namespace baleen::kernels

int main(int argc, char** argv) { return baleen::kernels::Main(argc, argv); }
