// server/json.h: JSON that goes out. (What comes in is read by fields.h.)
#ifndef BALEEN_SERVER_JSON_H_
#define BALEEN_SERVER_JSON_H_

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace baleen {

// Keys stay in the order in which they were set.
using Json = nlohmann::ordered_json;

// On one line. Bytes that are not UTF-8 become U+FFFD.
std::string ToText(const Json& json);

}  // namespace baleen

#endif  // BALEEN_SERVER_JSON_H_
