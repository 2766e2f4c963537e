#include "server/page.h"

// The assembler puts the files into the program. (CMake rebuilds this when they change.)
#define BALEEN_PAGE_FILE(symbol, file)            \
  __asm__(                                        \
      ".section .rodata\n"                        \
      ".global baleen_page_" #symbol              \
      "\n"                                        \
      "baleen_page_" #symbol                      \
      ":\n"                                       \
      ".incbin \"" BALEEN_PAGE_FOLDER "/" file    \
      "\"\n"                                      \
      ".global baleen_page_" #symbol              \
      "_end\n"                                    \
      "baleen_page_" #symbol                      \
      "_end:\n"                                   \
      ".byte 0\n"                                 \
      ".previous\n");                             \
  extern "C" {                                    \
  extern const char baleen_page_##symbol[];       \
  extern const char baleen_page_##symbol##_end[]; \
  }

BALEEN_PAGE_FILE(index, "index.html")
BALEEN_PAGE_FILE(style, "app.css")
BALEEN_PAGE_FILE(app, "app.js")
BALEEN_PAGE_FILE(markdown, "markdown.js")
BALEEN_PAGE_FILE(charts, "charts.js")
BALEEN_PAGE_FILE(icon, "icon.svg")
BALEEN_PAGE_FILE(openapi, "../openapi.json")

#undef BALEEN_PAGE_FILE

namespace baleen {

namespace {

struct File {
  std::string_view path;
  std::string_view content_type;
  std::string_view text;
};

#define BALEEN_PAGE_TEXT(symbol) std::string_view(baleen_page_##symbol, baleen_page_##symbol##_end)

const File kFiles[] = {
    {"/", "text/html; charset=utf-8", BALEEN_PAGE_TEXT(index)},
    {"/page/app.css", "text/css; charset=utf-8", BALEEN_PAGE_TEXT(style)},
    {"/page/app.js", "text/javascript; charset=utf-8", BALEEN_PAGE_TEXT(app)},
    {"/page/markdown.js", "text/javascript; charset=utf-8", BALEEN_PAGE_TEXT(markdown)},
    {"/page/charts.js", "text/javascript; charset=utf-8", BALEEN_PAGE_TEXT(charts)},
    {"/page/icon.svg", "image/svg+xml", BALEEN_PAGE_TEXT(icon)},
    {"/openapi.json", "application/json", BALEEN_PAGE_TEXT(openapi)},
};

#undef BALEEN_PAGE_TEXT

}  // namespace

std::optional<HttpResponse> PageFile(std::string_view path) {
  for (const File& file : kFiles) {
    if (file.path != path) continue;
    HttpResponse response;
    response.content_type = file.content_type;
    response.body = file.text;
    response.headers = {
        {"Content-Security-Policy",
         "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
        {"X-Content-Type-Options", "nosniff"},
        {"Referrer-Policy", "no-referrer"},
        {"Cache-Control", "no-cache"}};
    return response;
  }
  return std::nullopt;
}

}  // namespace baleen
