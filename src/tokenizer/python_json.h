// tokenizer/python_json.h: JSON text as Python's json.dumps(ensure_ascii=False) writes it.
//
// Chat templates print tool lists with it, and models have seen that very spacing. Numbers are
// written as Python's repr: integers as they are, floats by the shortest digits that read back.
#ifndef BALEEN_TOKENIZER_PYTHON_JSON_H_
#define BALEEN_TOKENIZER_PYTHON_JSON_H_

#include <simdjson.h>

#include <string>

namespace baleen {

struct PythonJsonStyle {
  size_t indent = 0;       // spaces a level; 0: all on one line
  bool compact = false;    // separators "," and ":" instead of ", " and ": " (one line only)
  bool sort_keys = false;  // at every level, by code point
};

std::string PythonJson(simdjson::dom::element value, const PythonJsonStyle& style);

}  // namespace baleen

#endif  // BALEEN_TOKENIZER_PYTHON_JSON_H_
