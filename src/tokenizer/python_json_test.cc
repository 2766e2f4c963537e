#include "tokenizer/python_json.h"

#include <gtest/gtest.h>

#include "base/json.h"

namespace baleen {
namespace {

std::string Dump(std::string_view text, const PythonJsonStyle& style = {}) {
  return PythonJson(JsonDocument::Parse(text, "test").root(), style);
}

// Expected strings: what json.dumps(json.loads(text), ensure_ascii=False) prints in Python 3.11.
TEST(PythonJson, WritesNumbersAsPython) {
  EXPECT_EQ(Dump("[0, -7, 18446744073709551615, 1.0, -0.0, 0.1, 1e5, 1.5e-3]"),
            "[0, -7, 18446744073709551615, 1.0, -0.0, 0.1, 100000.0, 0.0015]");
  EXPECT_EQ(Dump("[1e16, 1e15, 123456789012345680.0, 1e-4, 1e-5, 2.5e-7, 1e300, 1e22]"),
            "[1e+16, 1000000000000000.0, 1.2345678901234568e+17, 0.0001, 1e-05, 2.5e-07, 1e+300, "
            "1e+22]");
}

TEST(PythonJson, EscapesAsPython) {
  EXPECT_EQ(Dump(R"(["\"\\\/\b\f\n\r\t\u0000\u001f\u007f<é\u65e5\ud83d\ude00\u2028"])"),
            "[\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\x7f<é日😀\u2028\"]");
}

TEST(PythonJson, Separates) {
  constexpr std::string_view kText = R"({"b":[1,{"z":null,"a":true}],"a":{},"c":[]})";
  EXPECT_EQ(Dump(kText), R"({"b": [1, {"z": null, "a": true}], "a": {}, "c": []})");
  EXPECT_EQ(Dump(kText, {.sort_keys = true}),
            R"({"a": {}, "b": [1, {"a": true, "z": null}], "c": []})");
  EXPECT_EQ(Dump(kText, {.compact = true}), R"({"b":[1,{"z":null,"a":true}],"a":{},"c":[]})");
  EXPECT_EQ(Dump(kText, {.indent = 2}),
            "{\n  \"b\": [\n    1,\n    {\n      \"z\": null,\n      \"a\": true\n    }\n  ],\n"
            "  \"a\": {},\n  \"c\": []\n}");
}

}  // namespace
}  // namespace baleen
