// /openapi.json against the server that serves it: the same routes, and each of them answers. What
// the document says of bodies is held against the server by tests/server/openapi_client.py.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/program.h"
#include "server/client_testing.h"
#include "server/server.h"

namespace baleen {
namespace {

using Json = nlohmann::ordered_json;

// "/models/*" of "/v1/models/{name}", as the server names its routes.
std::string RouteOf(std::string path) {
  if (path.starts_with("/v1/")) path.erase(0, 3);
  for (size_t begin; (begin = path.find('{')) != std::string::npos;) {
    path.replace(begin, path.find('}', begin) + 1 - begin, "*");
  }
  return path;
}

// "GET /models/*" of each operation.
std::set<std::string> DescribedRoutes(const Json& document) {
  std::set<std::string> routes;
  for (const auto& [path, item] : document["paths"].items()) {
    const std::string route = RouteOf(path);
    for (const auto& [method, operation] : item.items()) {
      std::string upper = method;
      std::ranges::transform(upper, upper.begin(), [](unsigned char c) { return toupper(c); });
      routes.insert(upper + " " + route);
    }
  }
  return routes;
}

// What only one of the two has.
std::set<std::string> Differences(const Json& document) {
  const std::set<std::string> described = DescribedRoutes(document);
  const auto names = Server::RouteNames();
  const std::set<std::string> served(names.begin(), names.end());
  std::set<std::string> only;
  std::ranges::set_symmetric_difference(described, served, std::inserter(only, only.end()));
  return only;
}

class OpenApiTest : public testing::Test {
 protected:
  static ServerOptions OnAnyPort() {
    ServerOptions options;
    options.http.port = 0;
    options.model_names = {"tiny"};
    cli_test::ScratchDirectory& scratch = Scratch();
    options.database = scratch.path() + "/ledger.db";
    return options;
  }
  static cli_test::ScratchDirectory& Scratch() {
    static cli_test::ScratchDirectory directory;
    return directory;
  }

  std::unique_ptr<Engine> engine_ = Engine::Open(cli_test::StoriesModel());
  Server server_{*engine_, OnAnyPort()};
  Json document_ = Json::parse(TestClient(server_.port()).Get("/openapi.json").body);

  // Operations that the server has no answer for.
  std::set<std::string> Unanswered(const Json& document) {
    std::set<std::string> unanswered;
    for (const auto& [path, item] : document["paths"].items()) {
      std::string url = path;
      for (const auto& [from, to] : {std::pair("{file}", "app.css"), std::pair("{name}", "tiny")}) {
        if (const size_t at = url.find(from); at != std::string::npos) url.replace(at, 6, to);
      }
      for (const auto& [method, operation] : item.items()) {
        TestClient client(server_.port());
        const TestResponse response = method == "get" ? client.Get(url) : client.Post(url, "{}");
        if (response.status != 200 && response.status != 400) unanswered.insert(path);
      }
    }
    return unanswered;
  }
};

TEST_F(OpenApiTest, DescribesEveryRouteAndNoOther) {
  EXPECT_GT(Server::RouteNames().size(), 15U);
  EXPECT_EQ(Differences(document_), std::set<std::string>{});
}

TEST_F(OpenApiTest, EveryPathOfItAnswers) {
  EXPECT_EQ(Unanswered(document_), std::set<std::string>{});
}

TEST_F(OpenApiTest, PlantedFaultsAreSeen) {
  Json lacking = document_;
  lacking["paths"].erase("/v1/models/{name}");
  EXPECT_EQ(Differences(lacking), std::set<std::string>{"GET /models/*"});
  Json more = document_;
  more["paths"]["/v1/embeddings"]["post"] = Json::object();
  EXPECT_EQ(Differences(more), std::set<std::string>{"POST /embeddings"});
  EXPECT_EQ(Unanswered(more), std::set<std::string>{"/v1/embeddings"});
  Json other = document_;
  other["paths"]["/score"]["get"] = Json::object();
  EXPECT_EQ(Differences(other), std::set<std::string>{"GET /score"});
  EXPECT_EQ(Unanswered(other), std::set<std::string>{"/score"});
}

TEST_F(OpenApiTest, AMethodThatAPathDoesNotTakeIsToldWhatItTakes) {
  TestClient client(server_.port());
  const TestResponse response = client.Get("/v1/completions");
  EXPECT_EQ(response.status, 405);
  EXPECT_NE(response.head.find("Allow: POST\r\n"), std::string::npos) << response.head;
  TestClient other(server_.port());
  other.Send("DELETE /ping HTTP/1.1\r\nHost: test\r\n\r\n");
  EXPECT_NE(other.Receive().head.find("Allow: GET, POST\r\n"), std::string::npos);
}

}  // namespace
}  // namespace baleen
