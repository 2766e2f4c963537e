// training/run_log.h: what a run writes to be looked at: metrics.jsonl, expert_load.jsonl,
// TensorBoard event files, report.html.
#ifndef BALEEN_TRAINING_RUN_LOG_H_
#define BALEEN_TRAINING_RUN_LOG_H_

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "training/pass.h"
#include "training/trainer.h"

namespace baleen {

// A file that grows by whole records. Errors: kResourceExhausted, the disk is full; kFailed.
class AppendedFile {
 public:
  explicit AppendedFile(std::string path);
  void Append(std::string_view bytes);

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::string path_;
  std::unique_ptr<std::FILE, Close> file_;
};

// The scalars of one step as TensorBoard reads them: a TFRecord file of Event messages.
// Layout: tensorflow/core/lib/io/record_writer.h and tensorflow/core/util/event.proto.
std::string EventRecord(double wall_time, int64_t step,
                        const std::vector<std::pair<std::string, double>>& scalars);
// The first record of such a file.
std::string EventFileHeader(double wall_time);
// CRC-32C (Castagnoli).
uint32_t Crc32c(std::string_view bytes);

class RunLog {
 public:
  // `directory` exists. Lines of steps after `first_step`, which a killed run may have written past
  // its last checkpoint, are dropped.
  RunLog(const std::string& directory, uint64_t first_step);

  void Step(const StepReport& report);
  void Load(uint64_t step, const ExpertLoad& load);
  // Writes report.html from the two line files; `title` is plain text.
  void WriteReport(const std::string& title) const;

 private:
  std::string directory_;
  AppendedFile metrics_, load_, events_;
};

}  // namespace baleen

#endif  // BALEEN_TRAINING_RUN_LOG_H_
