// kernels/registry.h: which tables there are, and which one a machine gets.
#ifndef BALEEN_KERNELS_REGISTRY_H_
#define BALEEN_KERNELS_REGISTRY_H_

#include <string>
#include <string_view>
#include <vector>

#include "kernels/table.h"

namespace baleen::kernels {

struct KernelChoice {
  const KernelTable* table;  // null when this build has no code for it
  std::string name;
  std::string declined;  // why this machine cannot run it; empty: it can
};

// All tables, best first, the scalar reference last.
std::vector<KernelChoice> KernelChoices();

// The best table that this machine can run; with a name, that one. Errors: kInvalidArgument, an
// unknown name; kUnimplemented, a table that this machine cannot run, with the reason.
const KernelTable& SelectKernels(std::string_view name = "");

}  // namespace baleen::kernels

#endif  // BALEEN_KERNELS_REGISTRY_H_
