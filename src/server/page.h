// server/page.h: the page at /, as files within the program; and the API's description,
// openapi.json.
//
// HTML, style and scripts of our own (src/server/page/). They ask nobody but the server that sent
// them, and the headers that go with them forbid anything else.
#ifndef BALEEN_SERVER_PAGE_H_
#define BALEEN_SERVER_PAGE_H_

#include <optional>
#include <string_view>

#include "server/http.h"

namespace baleen {

// The file of this path; unset if there is none.
std::optional<HttpResponse> PageFile(std::string_view path);

}  // namespace baleen

#endif  // BALEEN_SERVER_PAGE_H_
