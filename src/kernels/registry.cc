#include "kernels/registry.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <utility>

#include "base/error.h"
#include "kernels/tables.h"

namespace baleen::kernels {

namespace {

// The names of missing features, or "" when the machine has all of them.
#if defined(__x86_64__)
// clang 16 does not know "f16c" as a feature to ask for. Whether the system saves the wide
// registers is part of the answer for AVX2.
bool HasF16c() {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

std::string MissingAvx2() {
  std::string missing;
  if (!__builtin_cpu_supports("avx2")) missing += " AVX2";
  if (!__builtin_cpu_supports("fma")) missing += " FMA";
  if (!HasF16c()) missing += " F16C";
  return missing;
}

std::string MissingAvx512() {
  std::string missing = MissingAvx2();
  if (!__builtin_cpu_supports("avx512f")) missing += " AVX512F";
  if (!__builtin_cpu_supports("avx512bw")) missing += " AVX512BW";
  if (!__builtin_cpu_supports("avx512dq")) missing += " AVX512DQ";
  if (!__builtin_cpu_supports("avx512vl")) missing += " AVX512VL";
  if (!__builtin_cpu_supports("avx512vnni")) missing += " AVX512_VNNI";
  return missing;
}

std::string MissingAvx512Bf16() {
  std::string missing = MissingAvx512();
  if (!__builtin_cpu_supports("avx512bf16")) missing += " AVX512_BF16";
  return missing;
}
#endif

// `table` is null in a build without it (BALEEN_ISA in CMakeLists.txt).
KernelChoice Choice(const char* name, const KernelTable* table, const std::string& missing) {
  if (!missing.empty()) return {table, name, "this CPU lacks" + missing};
  return {table, name, table == nullptr ? "this build leaves it out" : ""};
}

#if defined(__x86_64__)
#if BALEEN_BUILT_AVX2
constexpr const KernelTable* kAvx2 = &kAvx2Table;
#else
constexpr const KernelTable* kAvx2 = nullptr;
#endif
#if BALEEN_BUILT_AVX512
constexpr const KernelTable* kAvx512 = &kAvx512Table;
#else
constexpr const KernelTable* kAvx512 = nullptr;
#endif
#if BALEEN_BUILT_AVX512_BF16
KernelTable WithPairs(KernelTable table, const PairKernels& pairs) {
  table.name = "avx512_bf16";
  table.bf16_products = true;
  table.matmul = pairs.matmul;
  table.outer_matmul = pairs.outer_matmul;
  table.mla_absorbed = pairs.mla_absorbed;
  table.peak_loop = pairs.peak_loop;
  return table;
}
const KernelTable* Avx512Bf16() {
  static const KernelTable table = WithPairs(kAvx512Table, kAvx512PairKernels);
  return &table;
}
#else
constexpr const KernelTable* Avx512Bf16() { return nullptr; }
#endif
#endif

}  // namespace

std::vector<KernelChoice> KernelChoices() {
  std::vector<KernelChoice> choices;
#if defined(__x86_64__)
  choices.push_back(Choice("avx512_bf16", Avx512Bf16(), MissingAvx512Bf16()));
  choices.push_back(Choice("avx512", kAvx512, MissingAvx512()));
  // Intel's cores multiply BF16 at half the speed of F32 (Emerald Rapids: 634 and 1269 GFLOP/s on
  // 16 cores), so there weights in BF16 are better widened.
  if (__builtin_cpu_is("intel")) std::swap(choices[0], choices[1]);
  choices.push_back(Choice("avx2", kAvx2, MissingAvx2()));
#endif
  choices.push_back(Choice("scalar", &kScalarTable, ""));
  return choices;
}

const KernelTable& SelectKernels(std::string_view name) {
  std::string known;
  for (const KernelChoice& choice : KernelChoices()) {
    if (name.empty() ? choice.declined.empty() : name == choice.name) {
      if (!choice.declined.empty()) {
        Throw(ErrorCode::kUnimplemented, "--isa {}: {}", name, choice.declined);
      }
      return *choice.table;
    }
    known += (known.empty() ? "" : ", ") + choice.name;
  }
  Throw(ErrorCode::kInvalidArgument, "--isa {}: no such target; this build has {}", name, known);
}

}  // namespace baleen::kernels
