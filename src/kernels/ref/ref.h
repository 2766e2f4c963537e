// kernels/ref/ref.h: the scalar reference: each operation as its definition says, one output at a
// time, templated on the type of the sums. float gives the "scalar" table; double judges all
// tables in tests.
#ifndef BALEEN_KERNELS_REF_REF_H_
#define BALEEN_KERNELS_REF_REF_H_

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/table.h"
#include "tensor/blocks.h"
#include "tensor/dtype.h"

namespace baleen::kernels::ref {

template <typename Value>
Value Load(const std::byte* data, size_t i) {
  Value value;
  std::memcpy(&value, data + i * sizeof(Value), sizeof(Value));
  return value;
}

// Element (r, c) of stored weights, exactly as a float.
inline float WeightAt(const Matrix& w, size_t r, size_t c) {
  if (w.is_tiled()) return TileValue(w.tiles, w.tile(r / kTileRows * kTileRows), r % kTileRows, c);
  if (IsBlockType(w.dtype)) {
    const size_t size = BlockSize(w.dtype);
    float block[kMaxBlockSize];
    DecodeBlocks(w.dtype, w.row(r) + RowBytes(w.dtype, c / size * size), size, block);
    return block[c % size];
  }
  switch (w.dtype) {
    case DType::kF16:
      return F16ToF32(Load<uint16_t>(w.row(r), c));
    case DType::kBF16:
      return Bf16ToF32(Load<uint16_t>(w.row(r), c));
    case DType::kF8E4M3:
      return F8E4M3ToF32(Load<uint8_t>(w.row(r), c)) * w.scale_row(r)[c / kF8Block];
    default:
      return Load<float>(w.row(r), c);
  }
}

// The fields of a kI8 row.
inline int I8NumberAt(const Activations& x, size_t r, size_t c) {
  return Load<int8_t>(x.row(r), c);
}
inline float I8ScaleAt(const Activations& x, size_t r, size_t group) {
  return Load<float>(x.row(r) + x.i8_row().scales_offset(), group);
}

inline float ActivationAt(const Activations& x, size_t r, size_t c) {
  if (x.type == ActivationType::kI8) {
    return static_cast<float>(I8NumberAt(x, r, c)) * I8ScaleAt(x, r, c / x.group_cols);
  }
  return x.type == ActivationType::kF32 ? Load<float>(x.row(r), c)
                                        : Bf16ToF32(Load<uint16_t>(x.row(r), c));
}

// Number c of row t, c < kv_lora_rank a latent one, then those of the rope key.
inline float LatentAt(const LatentRows& cache, const LatentLayout& layout, size_t t, size_t c) {
  const std::byte* row = cache.row(t);
  if (layout.dtype == DType::kF32) return Load<float>(row, c);
  if (c >= layout.kv_lora_rank) {
    return Bf16ToF32(Load<uint16_t>(row + layout.rope_offset(), c - layout.kv_lora_rank));
  }
  if (layout.dtype == DType::kBF16) return Bf16ToF32(Load<uint16_t>(row, c));
  return static_cast<float>(Load<int8_t>(row + layout.latent_offset(), c)) *
         Load<float>(row, c / LatentLayout::kScaleBlock);
}

// One output of tiles and kI8, in the order that the contract asks of every table.
inline float TileProductI8(const Activations& x, size_t row, const Matrix& w, size_t n) {
  const std::byte* tile = w.tile(n / kTileRows * kTileRows);
  float y = 0;
  for (size_t k = 0; k < w.cols; k += x.group_cols) {
    const size_t end = std::min(w.cols, k + x.group_cols);
    int32_t sum = 0, min_sum = 0;
    TileElement element;
    for (size_t c = k; c < end; ++c) {
      element = TileElementAt(w.tiles, tile, n % kTileRows, c);
      sum += I8NumberAt(x, row, c) * element.number;
      min_sum += I8NumberAt(x, row, c) * -8 * element.min_number;
    }
    const float scale = I8ScaleAt(x, row, k / x.group_cols);
    y = std::fma(static_cast<float>(sum), element.scale * scale, y);
    if (w.tiles.has_mins) {
      y = std::fma(static_cast<float>(min_sum), element.min * (scale / 8), y);
    }
  }
  return y;
}

template <typename T>
void MatMul(const MatMulArgs& args) {
  if (args.x.type == ActivationType::kI8) {
    for (size_t m = 0; m < args.num_rows; ++m) {
      const size_t row = args.x_rows ? static_cast<size_t>(args.x_rows[m]) : m;
      for (size_t n = 0; n < args.w.rows; ++n) {
        args.y[m * args.y_stride + n] = TileProductI8(args.x, row, args.w, n);
      }
    }
    return;
  }
  for (size_t m = 0; m < args.num_rows; ++m) {
    const size_t row = args.x_rows ? static_cast<size_t>(args.x_rows[m]) : m;
    for (size_t n = 0; n < args.w.rows; ++n) {
      T sum = 0;
      for (size_t k = 0; k < args.w.cols; ++k) {
        const T x = static_cast<T>(ActivationAt(args.x, row, k));
        const T w = static_cast<T>(WeightAt(args.w, n, k));
        sum = args.chained ? std::fma(x, w, sum) : sum + x * w;
      }
      args.y[m * args.y_stride + n] = static_cast<float>(sum);
    }
  }
}

template <typename T>
void MatMulTransposed(const MatMulTransposedArgs& args) {
  for (size_t m = 0; m < args.num_rows; ++m) {
    for (size_t n = 0; n < args.w.cols; ++n) {
      T sum = 0;
      for (size_t k = 0; k < args.w.rows; ++k) {
        sum = std::fma(static_cast<T>(args.x[m * args.x_stride + k]),
                       static_cast<T>(WeightAt(args.w, k, n)), sum);
      }
      args.y[m * args.y_stride + n] = static_cast<float>(sum);
    }
  }
}

template <typename T>
struct SoftmaxState {
  T max, sum;
};

// softmax(scores) in place.
template <typename T>
SoftmaxState<T> Softmax(std::vector<T>& scores) {
  T max = -std::numeric_limits<T>::infinity();
  for (T score : scores) max = std::max(max, score);
  T sum = 0;
  for (T& score : scores) sum += score = std::exp(score - max);
  for (T& score : scores) score /= sum;
  return {max, sum};
}

template <typename T>
void MlaAbsorbed(const MlaAbsorbedArgs& args) {
  const size_t rank = args.kv_lora_rank;
  const LatentLayout layout = {args.cache.dtype, rank, args.qk_rope_head_dim};
  for (size_t m = 0; m < args.num_rows; ++m) {
    const size_t num_keys = args.first_position + m + 1;
    for (size_t h = args.head_begin; h < args.head_end; ++h) {
      const size_t head = m * args.num_heads + h;
      std::vector<T> weights(num_keys);
      for (size_t t = 0; t < num_keys; ++t) {
        T sum = 0;
        for (size_t i = 0; i < rank; ++i) {
          sum +=
              static_cast<T>(args.q_latent[head * rank + i]) * LatentAt(args.cache, layout, t, i);
        }
        for (size_t i = 0; i < args.qk_rope_head_dim; ++i) {
          sum += static_cast<T>(args.q_rope[head * args.qk_rope_head_dim + i]) *
                 LatentAt(args.cache, layout, t, rank + i);
        }
        weights[t] = sum * static_cast<T>(args.scale);
      }
      Softmax(weights);
      for (size_t i = 0; i < rank; ++i) {
        T sum = 0;
        for (size_t t = 0; t < num_keys; ++t)
          sum += weights[t] * LatentAt(args.cache, layout, t, i);
        args.out[head * rank + i] = static_cast<float>(sum);
      }
    }
  }
}

template <typename T>
void MlaDirect(const MlaDirectArgs& args) {
  const size_t rank = args.kv_b.cols;
  const size_t nope = args.qk_nope_head_dim, rope = args.qk_rope_head_dim, dv = args.v_head_dim;
  const LatentLayout layout = {args.cache.dtype, rank, rope};
  const size_t num_keys = args.first_position + args.num_rows;
  for (size_t h = args.head_begin; h < args.head_end; ++h) {
    // Keys and values of this head: [num_keys, nope + dv].
    std::vector<T> kv(num_keys * (nope + dv));
    for (size_t t = 0; t < num_keys; ++t) {
      for (size_t r = 0; r < nope + dv; ++r) {
        T sum = 0;
        for (size_t i = 0; i < rank; ++i) {
          float latent = LatentAt(args.cache, layout, t, i);
          if (args.products == ActivationType::kBF16) latent = Bf16ToF32(F32ToBf16(latent));
          sum += static_cast<T>(WeightAt(args.kv_b, (h - args.first_head) * (nope + dv) + r, i)) *
                 latent;
        }
        kv[t * (nope + dv) + r] = sum;
      }
    }
    for (size_t m = 0; m < args.num_rows; ++m) {
      const float* q = args.q + (m * args.num_heads + h) * (nope + rope);
      std::vector<T> weights(args.first_position + m + 1);
      for (size_t t = 0; t < weights.size(); ++t) {
        T sum = 0;
        for (size_t i = 0; i < nope; ++i) sum += static_cast<T>(q[i]) * kv[t * (nope + dv) + i];
        for (size_t i = 0; i < rope; ++i) {
          sum += static_cast<T>(q[nope + i]) * LatentAt(args.cache, layout, t, rank + i);
        }
        weights[t] = sum * static_cast<T>(args.scale);
      }
      const SoftmaxState<T> state = Softmax(weights);
      if (args.states != nullptr) {
        args.states[(m * args.num_heads + h) * 2] = static_cast<float>(state.max);
        args.states[(m * args.num_heads + h) * 2 + 1] = static_cast<float>(state.sum);
      }
      for (size_t i = 0; i < dv; ++i) {
        T sum = 0;
        for (size_t t = 0; t < weights.size(); ++t) {
          sum += weights[t] * kv[t * (nope + dv) + nope + i];
        }
        args.out[(m * args.num_heads + h) * dv + i] = static_cast<float>(sum);
      }
    }
  }
}

// Where a type of values V beside that of the sums is named, double lets tests differentiate.
template <typename T, typename V>
void RmsNorm(const V* x, const V* weight, V eps, size_t n, V* y) {
  T sum = 0;
  for (size_t i = 0; i < n; ++i) sum += static_cast<T>(x[i]) * x[i];
  const T scale = 1 / std::sqrt(sum / static_cast<T>(n) + static_cast<T>(eps));
  for (size_t i = 0; i < n; ++i) {
    y[i] = static_cast<V>(static_cast<T>(x[i]) * scale * static_cast<T>(weight[i]));
  }
}

template <typename T, typename V>
void SwiGlu(const V* gate, const V* up, size_t n, V* out) {
  for (size_t i = 0; i < n; ++i) {
    const T g = gate[i];
    out[i] = static_cast<V>(g / (1 + std::exp(-g)) * static_cast<T>(up[i]));
  }
}

template <typename T>
void AddScaled(float a, const float* x, size_t n, float* y) {
  for (size_t i = 0; i < n; ++i) {
    y[i] =
        static_cast<float>(std::fma(static_cast<T>(a), static_cast<T>(x[i]), static_cast<T>(y[i])));
  }
}

inline void DecodeRow(const Matrix& w, size_t r, float* out) {
  for (size_t c = 0; c < w.cols; ++c) out[c] = WeightAt(w, r, c);
}

inline void Pack(const float* x, size_t n, ActivationType type, std::byte* out) {
  for (size_t i = 0; i < n; ++i) {
    if (type == ActivationType::kF32) {
      std::memcpy(out + i * sizeof(float), &x[i], sizeof(float));
    } else {
      const uint16_t bits = F32ToBf16(x[i]);
      std::memcpy(out + i * sizeof(bits), &bits, sizeof(bits));
    }
  }
}

// The sums of the parts that columns [begin, end) have.
inline void SumParts(const I8Row& layout, size_t begin, size_t end, std::byte* row) {
  for (size_t part = begin; part < end; part += layout.part_cols) {
    uint16_t sums[2] = {};
    for (size_t c = part; c < std::min(end, part + layout.part_cols); ++c) {
      sums[c % 4 / 2] = static_cast<uint16_t>(sums[c % 4 / 2] - 8 * Load<int8_t>(row, c));
    }
    std::memcpy(row + layout.sums_offset() + part / layout.part_cols * 4, sums, sizeof(sums));
  }
}

inline void PackI8(const float* x, const I8Row& layout, size_t begin, size_t n, std::byte* out) {
  for (size_t k = begin; k < begin + n; k += layout.group_cols) {
    const size_t end = std::min(begin + n, k + layout.group_cols);
    float max = 0;
    for (size_t c = k; c < end; ++c) {
      const float magnitude = std::abs(x[c - begin]);
      if (magnitude > max || std::isnan(magnitude)) max = magnitude;
    }
    const bool tiny = max < 0x1p-100f;
    const float scale = tiny ? 0 : max / 127, inverse = tiny ? 0 : 127 / max;
    uint32_t zero_sum = 0;
    for (size_t c = k; c < end; ++c) {
      const float number = x[c - begin] * inverse;
      const auto rounded = static_cast<int8_t>(std::isfinite(number) ? std::lrint(number) : 0L);
      std::memcpy(out + c, &rounded, 1);
      zero_sum -= 8 * rounded;
    }
    const size_t group = k / layout.group_cols;
    std::memcpy(out + layout.scales_offset() + group * 4, &scale, 4);
    if (layout.part_cols == 0) std::memcpy(out + layout.sums_offset() + group * 4, &zero_sum, 4);
  }
  if (layout.part_cols != 0) SumParts(layout, begin, begin + n, out);
  if (begin + n == layout.cols) {
    std::memset(out + layout.cols, 0, layout.scales_offset() - layout.cols);
  }
}

template <typename T, typename V>
void RotatePairs(V* x, const V* cos, const V* sin, size_t num_pairs) {
  for (size_t i = 0; i < num_pairs; ++i) {
    const T a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = static_cast<V>(a * static_cast<T>(cos[i]) - b * static_cast<T>(sin[i]));
    x[2 * i + 1] = static_cast<V>(a * static_cast<T>(sin[i]) + b * static_cast<T>(cos[i]));
  }
}

}  // namespace baleen::kernels::ref

#endif  // BALEEN_KERNELS_REF_REF_H_
