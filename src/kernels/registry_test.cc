#include "kernels/registry.h"

#include <gtest/gtest.h>

#include "baleen/error.h"

namespace baleen::kernels {
namespace {

// A build for this machine only (BALEEN_ISA=host) asks the machine by another way than the registry
// does: were the two to differ, tests would pass over a table in silence.
TEST(RegistryTest, HasEveryTableThatTheMachineCanRun) {
  for (const KernelChoice& choice : KernelChoices()) {
    EXPECT_NE(choice.declined, "this build leaves it out") << choice.name;
    if (!choice.declined.empty()) continue;
    ASSERT_NE(choice.table, nullptr) << choice.name;
    EXPECT_EQ(choice.table->name, choice.name);
    EXPECT_EQ(&SelectKernels(choice.name), choice.table);
  }
}

TEST(RegistryTest, RefusesWhatCannotRun) {
  for (const KernelChoice& choice : KernelChoices()) {
    if (choice.declined.empty()) continue;
    EXPECT_THROW(SelectKernels(choice.name), Error) << choice.name;
  }
  EXPECT_THROW(SelectKernels("sse9"), Error);
}

TEST(RegistryTest, TheScalarTableIsLast) {
  ASSERT_FALSE(KernelChoices().empty());
  EXPECT_EQ(KernelChoices().back().name, "scalar");
  EXPECT_TRUE(KernelChoices().back().declined.empty());
}

}  // namespace
}  // namespace baleen::kernels
