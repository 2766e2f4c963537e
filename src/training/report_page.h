// training/report_page.h: a run as one self-contained HTML page: loss, learning rate, throughput
// and a heat map of the experts' load over time. Nothing is fetched; the data is in the page.
#ifndef BALEEN_TRAINING_REPORT_PAGE_H_
#define BALEEN_TRAINING_REPORT_PAGE_H_

#include <string>
#include <string_view>

namespace baleen {

// metrics, load: the lines of metrics.jsonl and expert_load.jsonl, as the run wrote them.
std::string ReportPage(std::string_view title, std::string_view metrics, std::string_view load);

}  // namespace baleen

#endif  // BALEEN_TRAINING_REPORT_PAGE_H_
