// formats/gptq.h: the layout of GPTQ directories, read and written (docs/formats/gptq.md).
//
// A quantized matrix NAME of n rows (out) and k columns (in) is four tensors, the codes transposed:
//   NAME.qweight I32 [k * bits / 32, n]   word (r, c): codes of row c, columns 32 / bits * r and
//   on,
//                                         lowest bits first
//   NAME.qzeros  I32 [groups, n * bits / 32]   word (g, c): zero points of rows 32 / bits * c and
//   on NAME.scales  F16 [groups, n] NAME.g_idx   I32 [k]                  the group of each column;
//   may be absent value (row, col) = (code - zero) * scale, zero and scale those of the column's
//   group
//
// Source of the rules: ModelCloud/GPTQModel, nn_modules/qlinear and utils.
#ifndef BALEEN_FORMATS_GPTQ_H_
#define BALEEN_FORMATS_GPTQ_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/safetensors_writer.h"
#include "tensor/weight_source.h"

namespace baleen {

// What qzeros hold: v1 files one less than the zero point, in arithmetic of whole words; v2 files
// the zero point.
enum class GptqVersion { kV1, kV2 };

struct GptqConfig {
  size_t bits = 4;        // 4 or 8
  size_t group_cols = 0;  // columns of a group; 0: the whole row
  GptqVersion version = GptqVersion::kV1;
  // Some matrices have other bits or groups ("dynamic"): their tensors' shapes say which.
  bool has_overrides = false;
};

// The object that quantize_config.json is, and config.json has as "quantization_config". `source`
// names the file. Errors: kCorruption; kUnimplemented, other bits or packings.
GptqConfig ParseGptqConfig(std::string_view json, const std::string& source);

struct GptqShape {
  size_t rows = 0;
  size_t cols = 0;
  size_t bits = 4;
  size_t group_cols = 0;  // 1 to cols

  size_t num_groups() const { return (cols + group_cols - 1) / group_cols; }
  size_t codes_per_word() const { return 32 / bits; }
  // Zero point of symmetric weights.
  uint16_t middle() const { return static_cast<uint16_t>(1u << (bits - 1)); }
  // Whether whole words hold rows and columns, as the layout needs.
  bool IsPackable() const { return rows % codes_per_word() == 0 && cols % codes_per_word() == 0; }
};

// A quantized matrix by its rows: what quantizers make.
struct GptqMatrix {
  GptqShape shape;
  std::vector<uint8_t> codes;    // [rows, cols]
  std::vector<uint16_t> scales;  // [rows, num_groups], bits of F16
  std::vector<uint16_t> zeros;   // [rows, num_groups], 1 to 2^bits - 1
  std::vector<int32_t> g_idx;    // [cols]

  // out [cols]: the values of one row.
  void DecodeRow(size_t row, float* out) const;
};

// The tensors of a matrix, to be declared to a writer, and their bytes. NAME is without ".weight".
std::vector<TensorSpec> GptqTensorSpecs(const std::string& name, const GptqShape& shape);
void WriteGptq(const std::string& name, const GptqMatrix& matrix, GptqVersion version,
               SafetensorsWriter& writer);

// A quantized matrix in a file, checked: its shapes fit each other, the config and [rows, cols];
// every column's group exists; every scale is a finite number that F16 has. Threads: immutable.
class GptqTensor {
 public:
  // Null when there is no NAME.qweight. Errors: kCorruption, kUnimplemented, with the tensor's
  // name.
  static bool IsIn(const WeightSource& source, const std::string& name);
  GptqTensor(const WeightSource& source, const std::string& name, const GptqConfig& config,
             size_t rows, size_t cols);

  const GptqShape& shape() const { return shape_; }
  // The group of each column is its number / group_cols.
  bool has_plain_groups() const { return column_order_.empty(); }
  // Columns sorted by group, those of a group ascending; each group has group_cols of them (the
  // last may have fewer). Empty with plain groups.
  const std::vector<int32_t>& column_order() const { return column_order_; }
  // Whether any zero point is not the middle.
  bool has_zeros() const { return has_zeros_; }

  // The bytes in the file that hold scales and zero points, and the codes: views for one who wants
  // to give pages back.
  const TensorView& qweight() const { return qweight_; }
  const TensorView& qzeros() const { return qzeros_; }
  const TensorView& scales() const { return scales_; }

  // Rows [first, first + count): codes [count, cols] with columns in column_order, scales and zeros
  // [count, num_groups]; zeros may be null.
  void Read(size_t first, size_t count, uint8_t* codes, uint16_t* scales, uint16_t* zeros) const;

 private:
  uint32_t ZeroWord(size_t group, size_t word) const;
  void FindColumnOrder(const WeightSource& source, const std::string& name);
  void CheckScales(const WeightSource& source, const std::string& name) const;

  GptqShape shape_;
  GptqVersion version_;
  TensorView qweight_, qzeros_, scales_;
  bool has_zeros_ = false;
  std::vector<int32_t> column_order_;
};

}  // namespace baleen

#endif  // BALEEN_FORMATS_GPTQ_H_
