#include "training/run_log.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/json.h"
#include "base/output_file.h"
#include "training/report_page.h"

namespace baleen {

namespace {

constexpr size_t kMaxLogBytes = size_t{1} << 30;

double Now() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

// Keeps the lines whose "step" is at most `last_step`. A torn last line goes too.
void KeepLines(const std::string& path, uint64_t last_step) {
  if (!std::filesystem::exists(path)) return;
  const std::string text = ReadFile(path, kMaxLogBytes);
  constexpr std::string_view kStep = "{\"step\": ";
  std::string kept;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;
    const std::string_view line(text.data() + begin, end + 1 - begin);
    uint64_t step = 0;
    if (line.starts_with(kStep)) {
      std::from_chars(line.data() + kStep.size(), line.data() + line.size(), step);
      if (step <= last_step) kept += line;
    }
    begin = end + 1;
  }
  WriteFile(path, kept);
}

// Fields of a protocol buffer.
void PutVarint(uint64_t value, std::string& out) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}
void PutField(uint32_t field, uint32_t wire_type, std::string& out) {
  PutVarint(field << 3 | wire_type, out);
}
template <typename T>
void PutFixed(T value, std::string& out) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}
void PutBytes(uint32_t field, std::string_view bytes, std::string& out) {
  PutField(field, 2, out);
  PutVarint(bytes.size(), out);
  out += bytes;
}

uint32_t MaskedCrc(std::string_view bytes) { return std::rotr(Crc32c(bytes), 15) + 0xa282ead8u; }

std::string Record(std::string_view message) {
  std::string length, record;
  PutFixed<uint64_t>(message.size(), length);
  record = length;
  PutFixed(MaskedCrc(length), record);
  record += message;
  PutFixed(MaskedCrc(message), record);
  return record;
}

}  // namespace

AppendedFile::AppendedFile(std::string path)
    : path_(std::move(path)), file_(std::fopen(path_.c_str(), "ab")) {
  if (file_ == nullptr) {
    Throw(ErrorCode::kInvalidArgument, "{}: cannot be written: {}", path_, std::strerror(errno));
  }
}

void AppendedFile::Append(std::string_view bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), file_.get()) == bytes.size() &&
      std::fflush(file_.get()) == 0) {
    return;
  }
  const int error = errno;
  const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
  Throw(full ? ErrorCode::kResourceExhausted : ErrorCode::kFailed, "{}: cannot be written: {}",
        path_, std::strerror(error));
}

uint32_t Crc32c(std::string_view bytes) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> rows{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0x82f63b78u : 0);
      rows[i] = value;
    }
    return rows;
  }();
  uint32_t crc = 0xffffffffu;
  for (const char c : bytes) crc = crc >> 8 ^ table[(crc ^ static_cast<unsigned char>(c)) & 0xff];
  return ~crc;
}

std::string EventFileHeader(double wall_time) {
  std::string event;
  PutField(1, 1, event);  // double wall_time = 1
  PutFixed(wall_time, event);
  PutBytes(3, "brain.Event:2", event);  // string file_version = 3
  return Record(event);
}

std::string EventRecord(double wall_time, int64_t step,
                        const std::vector<std::pair<std::string, double>>& scalars) {
  std::string summary;
  for (const auto& [tag, number] : scalars) {
    std::string value;
    PutBytes(1, tag, value);  // string tag = 1
    PutField(2, 5, value);    // float simple_value = 2
    PutFixed(static_cast<float>(number), value);
    PutBytes(1, value, summary);  // repeated Value value = 1
  }
  std::string event;
  PutField(1, 1, event);
  PutFixed(wall_time, event);
  PutField(2, 0, event);  // int64 step = 2
  PutVarint(static_cast<uint64_t>(step), event);
  PutBytes(5, summary, event);  // Summary summary = 5
  return Record(event);
}

namespace {

std::string KeptLines(const std::string& path, uint64_t first_step) {
  KeepLines(path, first_step);
  return path;
}

}  // namespace

RunLog::RunLog(const std::string& directory, uint64_t first_step)
    : directory_(directory),
      metrics_(KeptLines(directory + "/metrics.jsonl", first_step)),
      load_(KeptLines(directory + "/expert_load.jsonl", first_step)),
      events_(fmt::format("{}/events.out.tfevents.{:.0f}.{}.baleen", directory, Now(), getpid())) {
  events_.Append(EventFileHeader(Now()));
}

void RunLog::Step(const StepReport& r) {
  std::string line = fmt::format(
      "{{\"step\": {}, \"tokens\": {}, \"loss\": {:.6f}, \"lr\": {:.6g}, \"grad_norm\": {:.6g}, "
      "\"tokens_per_s\": {:.1f}, \"max_vio\": {:.4f}, \"mtp_loss\": {:.6f}, \"balance_loss\": "
      "{:.6g}, \"entropy\": {:.4f}, \"dead_experts\": {}, \"peak_share\": {:.4f}",
      r.step, r.tokens, r.loss, r.lr, r.grad_norm, r.tokens_per_s, r.max_vio, r.mtp_loss,
      r.balance_loss, r.entropy, r.dead_experts, r.peak_share);
  std::vector<std::pair<std::string, double>> scalars = {
      {"train/loss", r.loss},
      {"train/mtp_loss", r.mtp_loss},
      {"train/balance_loss", r.balance_loss},
      {"train/lr", r.lr},
      {"train/grad_norm", r.grad_norm},
      {"speed/tokens_per_s", r.tokens_per_s},
      {"experts/max_vio", r.max_vio},
      {"experts/entropy", r.entropy},
      {"experts/dead", static_cast<double>(r.dead_experts)}};
  if (r.validation_loss >= 0) {
    line += fmt::format(", \"validation_loss\": {:.6f}", r.validation_loss);
    scalars.emplace_back("validation/loss", r.validation_loss);
  }
  metrics_.Append(line + "}\n");
  events_.Append(EventRecord(Now(), static_cast<int64_t>(r.step), scalars));
}

void RunLog::Load(uint64_t step, const ExpertLoad& load) {
  std::string line = fmt::format("{{\"step\": {}, \"load\": [", step);
  for (size_t l = 0; l < load.size(); ++l) {
    line += l > 0 ? ", [" : "[";
    for (size_t e = 0; e < load[l].size(); ++e)
      line += fmt::format("{}{}", e ? ", " : "", load[l][e]);
    line += "]";
  }
  load_.Append(line + "]}\n");
}

void RunLog::WriteReport(const std::string& title) const {
  WriteFile(directory_ + "/report.html",
            ReportPage(title, ReadFile(directory_ + "/metrics.jsonl", kMaxLogBytes),
                       ReadFile(directory_ + "/expert_load.jsonl", kMaxLogBytes)));
}

}  // namespace baleen
