// tokenizer/tokenizer_json_reader.h: typed access to JSON values, with errors that name the source.
// Private to this folder.
#ifndef BALEEN_TOKENIZER_TOKENIZER_JSON_READER_H_
#define BALEEN_TOKENIZER_TOKENIZER_JSON_READER_H_

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "tokenizer/tokenizer_builder.h"

namespace baleen {

class JsonReader {
 public:
  explicit JsonReader(std::string source) : source_(std::move(source)) {}

  // `value` as a T; `what` and `type` are for the error: "model.vocab is not an object".
  template <typename T>
  T As(simdjson::dom::element value, std::string_view what, std::string_view type) const {
    T result;
    if (value.get(result)) Throw(ErrorCode::kCorruption, "{}: {} is not {}", source_, what, type);
    return result;
  }

  template <typename T>
  T Get(simdjson::dom::object parent, std::string_view key, std::string_view type) const {
    simdjson::dom::element value;
    if (parent[key].get(value)) {
      Throw(ErrorCode::kCorruption, "{}: the key \"{}\" is missing", source_, key);
    }
    return As<T>(value, key, type);
  }

  // nullopt if the key is absent or its value null.
  std::optional<simdjson::dom::element> GetOptional(simdjson::dom::object parent,
                                                    std::string_view key) const {
    simdjson::dom::element value;
    if (parent[key].get(value) || value.is_null()) return std::nullopt;
    return value;
  }

  bool GetFlag(simdjson::dom::object parent, std::string_view key, bool absent) const {
    const std::optional<simdjson::dom::element> value = GetOptional(parent, key);
    return value ? As<bool>(*value, key, "true or false") : absent;
  }

  // The fields of an added token, which tokenizer.json and tokenizer_config.json spell alike.
  // The name lives as long as the document.
  TokenizerBuilder::Added ReadAddedToken(int64_t id, simdjson::dom::object token) const {
    const auto name = Get<std::string_view>(token, "content", "a string");
    for (const char* option : {"single_word", "lstrip", "rstrip"}) {
      if (GetFlag(token, option, false)) {
        Throw(ErrorCode::kUnimplemented, "{}: added token {} has \"{}\", which is not supported",
              source_, id, option);
      }
    }
    const bool is_special = GetFlag(token, "special", false);
    return {id, name, is_special, GetFlag(token, "normalized", !is_special)};
  }

 private:
  std::string source_;
};

}  // namespace baleen

#endif  // BALEEN_TOKENIZER_TOKENIZER_JSON_READER_H_
