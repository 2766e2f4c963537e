#include "tokenizer/python_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>
#include <vector>

namespace baleen {
namespace {

// repr(float): shortest digits; an exponent only outside [1e-4, 1e16).
std::string PythonFloat(double value) {
  char buffer[32];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  const std::string_view shortest(buffer, end.ptr - buffer);
  const size_t e = shortest.find('e');
  int exponent = 0;
  const char* digits = shortest.data() + e + 1 + (shortest[e + 1] == '+');
  std::from_chars(digits, end.ptr, exponent);
  if (exponent < -4 || exponent >= 16) return std::string(shortest);
  std::string fixed(400, '\0');
  const auto fixed_end =
      std::to_chars(fixed.data(), fixed.data() + fixed.size(), value, std::chars_format::fixed);
  fixed.resize(fixed_end.ptr - fixed.data());
  if (fixed.find('.') == std::string::npos) fixed += ".0";
  return fixed;
}

class Writer {
 public:
  explicit Writer(const PythonJsonStyle& style) : style_(style) {}

  void Write(simdjson::dom::element value) {
    switch (value.type()) {
      case simdjson::dom::element_type::OBJECT:
        WriteObject(value.get_object());
        break;
      case simdjson::dom::element_type::ARRAY:
        WriteArray(value.get_array());
        break;
      case simdjson::dom::element_type::STRING:
        WriteString(value.get_string());
        break;
      case simdjson::dom::element_type::INT64:
        out_ += fmt::to_string(int64_t{value.get_int64()});
        break;
      case simdjson::dom::element_type::UINT64:
        out_ += fmt::to_string(uint64_t{value.get_uint64()});
        break;
      case simdjson::dom::element_type::DOUBLE:
        out_ += PythonFloat(value.get_double());
        break;
      case simdjson::dom::element_type::BOOL:
        out_ += bool{value.get_bool()} ? "true" : "false";
        break;
      case simdjson::dom::element_type::NULL_VALUE:
        out_ += "null";
        break;
    }
  }

  std::string Take() { return std::move(out_); }

 private:
  void WriteObject(simdjson::dom::object object) {
    std::vector<std::pair<std::string_view, simdjson::dom::element>> fields;
    for (const auto field : object) fields.emplace_back(field.key, field.value);
    if (style_.sort_keys) {
      std::stable_sort(fields.begin(), fields.end(),
                       [](const auto& a, const auto& b) { return a.first < b.first; });
    }
    Open('{');
    for (size_t i = 0; i < fields.size(); ++i) {
      NextItem(i);
      WriteString(fields[i].first);
      out_ += style_.compact ? ":" : ": ";
      Write(fields[i].second);
    }
    Close('}', fields.empty());
  }

  void WriteArray(simdjson::dom::array array) {
    Open('[');
    size_t count = 0;
    for (const auto item : array) {
      NextItem(count++);
      Write(item);
    }
    Close(']', count == 0);
  }

  void WriteString(std::string_view text) {
    out_ += '"';
    for (const char c : text) {
      switch (c) {
        case '"':
          out_ += "\\\"";
          break;
        case '\\':
          out_ += "\\\\";
          break;
        case '\n':
          out_ += "\\n";
          break;
        case '\r':
          out_ += "\\r";
          break;
        case '\t':
          out_ += "\\t";
          break;
        case '\b':
          out_ += "\\b";
          break;
        case '\f':
          out_ += "\\f";
          break;
        default:
          if (static_cast<unsigned char>(c) < 0x20) {
            out_ += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
          } else {
            out_ += c;
          }
      }
    }
    out_ += '"';
  }

  void Open(char bracket) {
    out_ += bracket;
    ++depth_;
  }

  void NextItem(size_t index) {
    if (index > 0) out_ += style_.compact || style_.indent > 0 ? "," : ", ";
    NewLine();
  }

  void Close(char bracket, bool empty) {
    --depth_;
    if (!empty) NewLine();
    out_ += bracket;
  }

  void NewLine() {
    if (style_.indent == 0) return;
    out_ += '\n';
    out_.append(depth_ * style_.indent, ' ');
  }

  const PythonJsonStyle& style_;
  std::string out_;
  size_t depth_ = 0;
};

}  // namespace

std::string PythonJson(simdjson::dom::element value, const PythonJsonStyle& style) {
  Writer writer(style);
  writer.Write(value);
  return writer.Take();
}

}  // namespace baleen
