#include "quantize/report.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace baleen {

namespace {

using Json = nlohmann::ordered_json;

const char* Name(QuantizeMethod method) { return method == QuantizeMethod::kGptq ? "gptq" : "rtn"; }

const char* Name(ColumnOrder order) {
  switch (order) {
    case ColumnOrder::kNatural:
      return "natural";
    case ColumnOrder::kActivation:
      return "activation";
    case ColumnOrder::kGroupAware:
      return "group-aware";
    case ColumnOrder::kDescAct:
      return "desc-act";
  }
  return "";
}

Json ToJson(const TensorReport& tensor) {
  return {{"name", tensor.name},
          {"bits", tensor.bits},
          {"error", tensor.error},
          {"tokens", tensor.tokens},
          {"method", Name(tensor.method)},
          {"damp", tensor.damp},
          {"borrowed_tokens", tensor.borrowed_tokens}};
}

Json ToJson(const std::vector<TensorReport>& tensors) {
  Json array = Json::array();
  for (const TensorReport& tensor : tensors) array.push_back(ToJson(tensor));
  return array;
}

// Names come from a checkpoint, so they may hold anything.
std::string Escape(std::string_view text) {
  std::string escaped;
  for (char c : text) {
    switch (c) {
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '&':
        escaped += "&amp;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

struct Point {
  double x, y;
};

// Dots over the range of their coordinates; y logarithmic, zeros left out.
std::string Plot(const std::string& title, const std::string& x_title, const std::string& y_title,
                 const std::vector<Point>& points, bool log_x) {
  constexpr double kWidth = 640, kHeight = 260, kLeft = 70, kBottom = 40, kTop = 16, kRight = 16;
  const auto place = [&](double x) { return log_x ? std::log10(x) : x; };
  double x0 = HUGE_VAL, x1 = -HUGE_VAL, y0 = HUGE_VAL, y1 = -HUGE_VAL;
  std::vector<Point> shown;
  for (const Point& point : points) {
    if (!(point.y > 0) || (log_x && !(point.x > 0))) continue;
    shown.push_back({place(point.x), std::log10(point.y)});
    x0 = std::min(x0, shown.back().x), x1 = std::max(x1, shown.back().x);
    y0 = std::min(y0, shown.back().y), y1 = std::max(y1, shown.back().y);
  }
  if (shown.empty()) return "";
  x1 = std::max(x1, x0 + 1e-3), y1 = std::max(y1, y0 + 1e-3);
  const auto to_x = [&](double x) {
    return kLeft + (x - x0) / (x1 - x0) * (kWidth - kLeft - kRight);
  };
  const auto to_y = [&](double y) {
    return kTop + (y1 - y) / (y1 - y0) * (kHeight - kTop - kBottom);
  };
  std::string svg = fmt::format(
      "<figure><figcaption>{}</figcaption>\n<svg viewBox=\"0 0 {} {}\" role=\"img\">\n"
      "<path class=\"axis\" d=\"M{} {}V{}H{}\"/>\n",
      title, kWidth, kHeight, kLeft, kTop, kHeight - kBottom, kWidth - kRight);
  for (const Point& point : shown) {
    svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"2.5\"/>\n", to_x(point.x),
                       to_y(point.y));
  }
  const auto label = [&](double x, double y, const char* anchor, const std::string& text) {
    svg += fmt::format("<text x=\"{:.0f}\" y=\"{:.0f}\" text-anchor=\"{}\">{}</text>\n", x, y,
                       anchor, text);
  };
  const auto value = [](double v) { return fmt::format("{:.3g}", v); };
  label(kLeft - 6, kTop + 8, "end", value(std::pow(10, y1)));
  label(kLeft - 6, kHeight - kBottom, "end", value(std::pow(10, y0)));
  label(kLeft, kHeight - kBottom + 16, "start", value(log_x ? std::pow(10, x0) : x0));
  label(kWidth - kRight, kHeight - kBottom + 16, "end", value(log_x ? std::pow(10, x1) : x1));
  label((kLeft + kWidth) / 2, kHeight - 6, "middle", x_title);
  svg += fmt::format(
      "<text transform=\"translate(14 {:.0f}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
      kHeight / 2, y_title);
  return svg + "</svg></figure>\n";
}

double LayerOf(const std::string& name) {
  const size_t begin = name.find("layers.");
  return begin == std::string::npos ? 0 : std::atof(name.c_str() + begin + 7);
}

}  // namespace

std::string TensorsJson(const std::vector<TensorReport>& tensors) { return ToJson(tensors).dump(); }

std::vector<TensorReport> ParseTensorsJson(const std::string& json, const std::string& source) {
  std::vector<TensorReport> tensors;
  try {
    for (const Json& item : Json::parse(json)) {
      tensors.push_back(
          {.name = item.at("name"),
           .bits = item.at("bits"),
           .method = item.at("method") == "gptq" ? QuantizeMethod::kGptq : QuantizeMethod::kRtn,
           .error = item.at("error"),
           .damp = item.at("damp"),
           .tokens = item.at("tokens"),
           .borrowed_tokens = item.at("borrowed_tokens")});
    }
  } catch (const Json::exception& error) {
    Throw(ErrorCode::kCorruption, "{}: its state is damaged ({}); remove the directory", source,
          error.what());
  }
  return tensors;
}

std::string ReportJson(const QuantizeReport& report, const QuantizeOptions& options) {
  const RoundingOptions& r = options.rounding;
  const Json json = {
      {"tensors", ToJson(report.tensors)},
      {"kept", report.kept},
      {"perplexity_before", report.perplexity_before},
      {"perplexity_after", report.perplexity_after},
      {"seconds", report.seconds},
      {"resumed_layers", report.resumed_layers},
      {"bytes_before", report.bytes_before},
      {"bytes_after", report.bytes_after},
      {"method", Name(r.method)},
      {"bits", r.scale.bits},
      {"small_projections_bits",
       options.small_projections == SmallProjections::kEightBits ? Json(8) : Json(nullptr)},
      {"group_size", r.group_cols == 0 ? int64_t{-1} : static_cast<int64_t>(r.group_cols)},
      {"symmetric", r.scale.symmetric},
      {"scale_search", r.scale.search},
      {"order", Name(r.order)},
      {"damp", r.damp},
      {"calibration",
       {{"name", report.calibration_name},
        {"sha256", report.calibration_sha256},
        {"tokens", report.calibration_tokens},
        {"held_out_tokens", report.held_out_tokens}}}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string ReportHtml(const QuantizeReport& report, const QuantizeOptions& options) {
  const RoundingOptions& r = options.rounding;
  std::vector<Point> by_layer, by_tokens;
  for (const TensorReport& tensor : report.tensors) {
    by_layer.push_back({LayerOf(tensor.name), tensor.error});
    by_tokens.push_back({static_cast<double>(tensor.tokens), tensor.error});
  }
  std::string html = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Quantization</title>\n"
      "<style>body{{font:15px sans-serif;max-width:60em;margin:2em auto;padding:0 1em}}"
      "table{{border-collapse:collapse}}td,th{{padding:2px 10px;text-align:right}}"
      "td:first-child,th:first-child{{text-align:left}}tr.flag{{background:#fed}}"
      "svg{{width:100%;font:11px sans-serif}}.axis{{fill:none;stroke:#888}}"
      "circle{{fill:#1668a8;fill-opacity:.55}}</style>\n"
      "<h1>{} in {} bits</h1>\n<table>\n",
      r.method == QuantizeMethod::kGptq ? "GPTQ" : "Round to nearest", r.scale.bits);
  const auto row = [&](const char* what, const std::string& value) {
    html += fmt::format("<tr><td>{}<td>{}\n", what, value);
  };
  row("Perplexity before", fmt::format("{:.4f}", report.perplexity_before));
  row("Perplexity after",
      fmt::format("{:.4f} ({:+.2f} %)", report.perplexity_after,
                  100 * (report.perplexity_after / report.perplexity_before - 1)));
  row("Measured on",
      fmt::format("{} tokens held out of the calibration text", report.held_out_tokens));
  row("Calibration", fmt::format("{}, {} tokens, SHA-256 {}", Escape(report.calibration_name),
                                 report.calibration_tokens, report.calibration_sha256));
  row("Size", fmt::format("{:.1f} MB of {:.1f} MB", static_cast<double>(report.bytes_after) / 1e6,
                          static_cast<double>(report.bytes_before) / 1e6));
  row("Groups", r.group_cols == 0 ? "whole rows" : fmt::format("{} columns", r.group_cols));
  row("Scales", fmt::format("{}{}", r.scale.symmetric ? "symmetric" : "asymmetric",
                            r.scale.search ? ", searched" : ""));
  row("Order", Name(r.order));
  row("Time", fmt::format("{:.0f} s", report.seconds));
  html +=
      "</table>\n<p>The error is the part of the square of a layer's outputs that rounding "
      "changed (without calibration: of its weights). Coloured rows saw so few tokens that "
      "those of all experts were mixed in, or were rounded to nearest.</p>\n";
  html += Plot("Error by layer", "layer", "error", by_layer, false);
  html += Plot("Error by tokens seen", "tokens", "error", by_tokens, true);
  html += "<table><tr><th>matrix<th>bits<th>method<th>error<th>tokens<th>borrowed<th>damping\n";
  for (const TensorReport& t : report.tensors) {
    const bool flag = t.borrowed_tokens > 0 ||
                      (r.method == QuantizeMethod::kGptq && t.method == QuantizeMethod::kRtn);
    html += fmt::format("<tr{}><td>{}<td>{}<td>{}<td>{:.3g}<td>{}<td>{:.0f}<td>{:.3g}\n",
                        flag ? " class=\"flag\"" : "", Escape(t.name), t.bits, Name(t.method),
                        t.error, t.tokens, t.borrowed_tokens, t.damp);
  }
  html += "</table>\n<h2>Kept as stored</h2>\n<p>Embeddings, norms, routers, the head";
  if (options.small_projections == SmallProjections::kStored) {
    html += ", small projections of the attention";
  }
  for (const std::string& name : report.kept) html += ", " + Escape(name);
  return html + "</p>\n";
}

}  // namespace baleen
