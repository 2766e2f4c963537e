// GroupedSwiGlu: contract in kernels.h.
//
// Two phases. In the first a task computes a slice of one group's intermediate width, gate and up
// side by side, and leaves it in the form in which down_proj reads it. In the second a task owns a
// slice of the output's columns and adds up the groups in their order.
#include <algorithm>
#include <vector>

#include "base/check.h"
#include "kernels/kernels.h"
#include "kernels/tasks.h"

namespace baleen::kernels {

namespace {

// Rows of weights that a task takes. The first phase packs what it computes, so these are whole
// groups of activations.
constexpr size_t kSliceRows = 128;
static_assert(kSliceRows % kActivationGroup == 0);
// A task of the second phase has so many columns of the output, whatever the number of networks: a
// small model has few, and the threads should end together; fewer still when a column costs little.
constexpr size_t kOutputSliceRows = 64;
constexpr size_t kThinSliceRows = 32;
static_assert(kThinSliceRows <= kOutputSliceRows && kOutputSliceRows <= kSliceRows);
constexpr size_t kThinBatch = 4;

// The left side of a product: rows[i] of x, or row i.
struct Input {
  Activations x;
  const int32_t* rows = nullptr;
};

struct Network {
  const SwiGluGroup* group;
  Input gate, up;
  Activations hidden;  // as the first phase writes it
  Input down;          // as the second phase reads it
};

struct Task {
  size_t network, slice;
};

// Scratch of each thread.
struct Scratch {
  ThreadScratch unpacked;  // of the products
  ThreadScratch tiles;     // [2, max_rows, kSliceRows]
  size_t max_rows;

  float* Tile(size_t thread, size_t i) const {
    return reinterpret_cast<float*>(tiles.Of(thread)) + i * max_rows * kSliceRows;
  }
};

Input InputFor(Operand& x, std::span<const int32_t> rows, const Matrix& w, KernelContext& ctx) {
  if (w.column_order != nullptr) return {.x = x.Reordered(rows, w)};
  return {.x = x.As(ctx.FormFor(w)), .rows = rows.data()};
}

Network Prepare(Operand& x, const SwiGluGroup& group, KernelContext& ctx) {
  BALEEN_CHECK(group.gate.cols == x.cols() && group.down.cols == group.gate.rows);
  for (const Matrix* w : {&group.gate, &group.up, &group.down}) {
    ctx.Account(w->size_bytes(), ctx.FormFor(*w).type, group.rows.size() * w->rows * w->cols);
  }
  Network network = {.group = &group};
  network.gate = InputFor(x, group.rows, group.gate, ctx);
  const bool same_order =
      group.gate.column_order != nullptr && group.gate.column_order == group.up.column_order;
  network.up = same_order ? network.gate : InputFor(x, group.rows, group.up, ctx);
  // Columns in another order can be packed only when all of them are there.
  const ActivationForm form =
      group.down.column_order != nullptr ? ActivationForm{} : ctx.FormFor(group.down);
  network.hidden = NewActivations(form, group.rows.size(), group.down.cols, ctx.arena);
  network.down = {.x = network.hidden};
  return network;
}

void Multiply(const Input& input, size_t num_rows, const Matrix& w, float* y, size_t y_stride,
              std::byte* scratch, KernelContext& ctx) {
  ctx.table.matmul({.x = input.x,
                    .x_rows = input.rows,
                    .num_rows = num_rows,
                    .w = w,
                    .y = y,
                    .y_stride = y_stride,
                    .scratch = scratch,
                    .chained = ctx.Chains(w)});
}

void WaitForWeights(const SwiGluGroup& group) {
  if (group.pending == nullptr) return;
  for (uint32_t left; (left = group.pending->load(std::memory_order_acquire)) != 0;) {
    group.pending->wait(left, std::memory_order_acquire);
  }
}

// A slice of the hidden activations of one network.
void ComputeHidden(const Network& network, size_t slice, const Scratch& scratch, size_t thread,
                   KernelContext& ctx) {
  const SwiGluGroup& group = *network.group;
  WaitForWeights(group);
  const size_t num_rows = group.rows.size();
  const size_t begin = slice * kSliceRows;
  const size_t width = std::min(kSliceRows, group.gate.rows - begin);
  const bool keep = group.gate_out != nullptr;
  const size_t stride = keep ? group.gate.rows : kSliceRows;
  float* tile = scratch.Tile(thread, 0);
  float* gate = keep ? group.gate_out + begin : tile;
  float* up = keep ? group.up_out + begin : scratch.Tile(thread, 1);
  std::byte* unpacked = scratch.unpacked.Of(thread);
  Multiply(network.gate, num_rows, Slice(group.gate, slice, kSliceRows), gate, stride, unpacked,
           ctx);
  Multiply(network.up, num_rows, Slice(group.up, slice, kSliceRows), up, stride, unpacked, ctx);
  for (size_t m = 0; m < num_rows; ++m) {
    float* row = tile + m * kSliceRows;
    ctx.table.swiglu(gate + m * stride, up + m * stride, width, row);
    PackInto(network.hidden, m, row, begin, width, ctx.table);
  }
}

// A slice of the columns of out, slice_rows wide.
void AddOutputs(std::span<const Network> networks, size_t slice, size_t slice_rows, size_t x_rows,
                float* out, size_t out_cols, SwiGluOutput output, const Scratch& scratch,
                size_t thread, KernelContext& ctx) {
  const size_t begin = slice * slice_rows;
  const size_t width = std::min(slice_rows, out_cols - begin);
  if (output == SwiGluOutput::kReplace) {
    for (size_t r = 0; r < x_rows; ++r) std::fill_n(out + r * out_cols + begin, width, 0.0f);
  }
  float* y = scratch.Tile(thread, 0);
  for (const Network& network : networks) {
    const SwiGluGroup& group = *network.group;
    Multiply(network.down, group.rows.size(), Slice(group.down, slice, slice_rows), y, kSliceRows,
             scratch.unpacked.Of(thread), ctx);
    for (size_t m = 0; m < group.rows.size(); ++m) {
      const float weight = group.row_weights ? group.row_weights[m] : 1.0f;
      ctx.table.add_scaled(weight, y + m * kSliceRows, width,
                           out + group.rows[m] * out_cols + begin);
    }
  }
}

// Brings finished hidden activations into the order of down_proj's columns.
void ReorderHidden(Network& network, KernelContext& ctx) {
  const Matrix& down = network.group->down;
  if (down.column_order == nullptr) return;
  Operand hidden(reinterpret_cast<const float*>(network.hidden.data), network.hidden.rows,
                 network.hidden.cols, ctx);
  network.down = {.x = hidden.Reordered({}, down)};
}

}  // namespace

void GroupedSwiGlu(Operand& x, std::span<const SwiGluGroup> groups, float* out, KernelContext& ctx,
                   SwiGluOutput output) {
  // What x keeps must outlive the scope.
  for (const SwiGluGroup& group : groups) {
    for (const Matrix* w : {&group.gate, &group.up}) {
      if (w->column_order == nullptr) x.As(ctx.FormFor(*w));
    }
  }
  ArenaScope scope(ctx.arena);
  const std::span<Network> networks(ctx.arena.Allocate<Network>(groups.size()), groups.size());
  size_t num_tasks = 0, max_rows = 0, max_cols = x.cols();
  for (size_t g = 0; g < groups.size(); ++g) {
    networks[g] = Prepare(x, groups[g], ctx);
    num_tasks += NumSlices(groups[g].gate.rows, kSliceRows);
    max_rows = std::max(max_rows, groups[g].rows.size());
    max_cols = std::max(max_cols, groups[g].down.cols);
  }
  auto* tasks = ctx.arena.Allocate<Task>(num_tasks);
  num_tasks = 0;
  const auto add_tasks = [&](size_t g) {
    const size_t num_slices = NumSlices(groups[g].gate.rows, kSliceRows);
    for (size_t s = 0; s < num_slices; ++s) tasks[num_tasks++] = {g, s};
  };
  std::vector<size_t> waiting;
  for (size_t g = 0; g < groups.size(); ++g) {
    const bool is_there = groups[g].pending == nullptr || groups[g].pending->load() == 0;
    is_there ? add_tasks(g) : waiting.push_back(g);
  }
  for (const size_t g : waiting) add_tasks(g);
  const Scratch scratch = {.unpacked = ThreadScratch(MatMulScratchBytes(max_cols), ctx),
                           .tiles = ThreadScratch(2 * max_rows * kSliceRows * sizeof(float), ctx),
                           .max_rows = max_rows};

  const size_t out_cols = groups.empty() ? 0 : groups[0].down.rows;
  const size_t out_slice_rows = x.rows() <= kThinBatch ? kThinSliceRows : kOutputSliceRows;
  const auto compute_hidden = [&](size_t task, size_t thread) {
    ComputeHidden(networks[tasks[task].network], tasks[task].slice, scratch, thread, ctx);
  };
  const auto add_outputs = [&](size_t slice, size_t thread) {
    AddOutputs(networks, slice, out_slice_rows, x.rows(), out, out_cols, output, scratch, thread,
               ctx);
  };
  const size_t num_out_slices = NumSlices(out_cols, out_slice_rows);
  if (std::ranges::any_of(
          groups, [](const SwiGluGroup& group) { return group.down.column_order != nullptr; })) {
    ctx.pool.ParallelFor(num_tasks, compute_hidden);
    for (Network& network : networks) ReorderHidden(network, ctx);
    ctx.pool.ParallelFor(num_out_slices, add_outputs);
  } else {
    ctx.pool.ParallelFor(num_tasks, compute_hidden, num_out_slices, add_outputs);
  }
}

}  // namespace baleen::kernels
