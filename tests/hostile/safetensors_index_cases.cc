// Every way in which an index and its shards can be wrong, and directories that hold no model.
#include <fmt/format.h>

#include <filesystem>

#include "formats/safetensors.h"
#include "hostile/hostile.h"

namespace baleen::hostile {

namespace {

// A whole shard with one-byte tensors of these names.
std::string Shard(const std::vector<std::string>& names) {
  std::string header = "{";
  for (size_t i = 0; i < names.size(); ++i) {
    header += fmt::format(R"({}"{}":{{"dtype":"U8","shape":[1],"data_offsets":[{},{}]}})",
                          i == 0 ? "" : ",", names[i], i, i + 1);
  }
  header += "}";
  std::string bytes;
  for (size_t i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(header.size() >> (8 * i)));
  return bytes + header + std::string(names.size(), 'd');
}

HostileCase Directory(const std::string& name, std::map<std::string, std::string> files,
                      std::vector<std::string> fragments, ErrorCode code = ErrorCode::kCorruption) {
  return {.name = name,
          .files = std::move(files),
          .open = [](const std::string& directory) { OpenSafetensors(directory); },
          .code = code,
          .fragments = std::move(fragments)};
}

HostileCase Index(const std::string& name, const std::string& json,
                  std::vector<std::string> fragments) {
  fragments.push_back("model.safetensors.index.json: ");
  return Directory(name, {{"model.safetensors.index.json", json}}, std::move(fragments));
}

// An index that places tensor "w" in a file of this name (in JSON's spelling).
HostileCase ShardName(const std::string& name, const std::string& shard) {
  return Index(name, fmt::format(R"({{"weight_map":{{"w":"{}"}}}})", shard),
               {"weight_map of \"w\"", "plain name"});
}

std::vector<HostileCase> JsonCases() {
  std::string many = R"({"weight_map":{)";
  for (int i = 0; i < 300'000; ++i) many += fmt::format("\"{}\":0,", i);
  return {
      Index("IndexEmpty", "", {"not valid JSON"}),
      Index("IndexCut", R"({"weight_map":{"w":)", {"not valid JSON"}),
      Index("IndexNestedDeeply", std::string(1'000'000, '['), {"not valid JSON"}),
      Index("IndexIsAnArray", "[]", {"expected a JSON object"}),
      Index("IndexIsAnLfsPointer", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            {"Git LFS pointer", "git lfs pull"}),
      Index("IndexWithoutMap", R"({"metadata":{"total_size":4}})", {"no weight_map"}),
      Index("IndexMapTwice", R"({"weight_map":{},"weight_map":{}})", {"weight_map comes twice"}),
      Index("IndexMapIsAnArray", R"({"weight_map":["w"]})", {"weight_map is not an object"}),
      Index("IndexMapEmpty", R"({"weight_map":{}})", {"weight_map is empty"}),
      Index("IndexShardIsANumber", R"({"weight_map":{"w":1}})",
            {"weight_map of \"w\"", "not a string"}),
      Index("IndexTensorTwice", R"({"weight_map":{"w":"a.safetensors","w":"b.safetensors"}})",
            {"tensor \"w\" comes twice"}),
      Index("IndexDense", many + "\"w\":0}}", {"weight_map of \"0\""}),
  };
}

std::vector<HostileCase> ShardNameCases() {
  return {
      ShardName("ShardInParent", "../secret.safetensors"),
      ShardName("ShardAbsolute", "/etc/secret.safetensors"),
      ShardName("ShardInSubdirectory", "sub/model.safetensors"),
      ShardName("ShardWithBackslash", "..\\\\secret.safetensors"),
      ShardName("ShardWithZeroByte", "a\\u0000.safetensors"),
      ShardName("ShardHidden", ".hidden.safetensors"),
      ShardName("ShardIsDotDot", ".."),
      ShardName("ShardEmptyName", ""),
      ShardName("ShardIsAPickle", "pytorch_model-00001-of-00002.bin"),
      ShardName("ShardNameTooLong", std::string(300, 'a') + ".safetensors"),
  };
}

std::vector<HostileCase> AgreementCases() {
  const std::string index =
      R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors","c":"3.safetensors"}})";
  const std::string index_name = "model.safetensors.index.json";
  return {
      Directory("ShardMissing", {{index_name, index}, {"1.safetensors", Shard({"a"})}},
                {"2.safetensors: missing", "2 of the 3 shards", "download them"},
                ErrorCode::kNotFound),
      Directory("ShardLacksATensor",
                {{index_name, index},
                 {"1.safetensors", Shard({"a"})},
                 {"2.safetensors", Shard({})},
                 {"3.safetensors", Shard({"c"})}},
                {index_name, "tensor \"b\"", "2.safetensors, which does not hold it"}),
      Directory("ShardHoldsATensorThatTheIndexLacks",
                {{index_name, index},
                 {"1.safetensors", Shard({"a", "x"})},
                 {"2.safetensors", Shard({"b"})},
                 {"3.safetensors", Shard({"c"})}},
                {"1.safetensors: holds tensor \"x\"", "does not name"}),
      Directory("TensorInTwoShards",
                {{index_name, index},
                 {"1.safetensors", Shard({"a"})},
                 {"2.safetensors", Shard({"a", "b"})},
                 {"3.safetensors", Shard({"c"})}},
                {"2.safetensors: holds tensor \"a\"", "places in \"1.safetensors\""}),
      Directory("ShardHalfDownloaded",
                {{index_name, index},
                 {"1.safetensors", Shard({"a"})},
                 {"2.safetensors", Shard({"b"}).substr(0, 8 + 53)},
                 {"3.safetensors", Shard({"c"})}},
                {"2.safetensors: cut short", "missing", "download the file again"}),
      Directory("ShardDamaged",
                {{index_name, index},
                 {"1.safetensors", Shard({"a"})},
                 {"2.safetensors", "version https://git-lfs"},
                 {"3.safetensors", Shard({"c"})}},
                {"2.safetensors: ", "LFS pointer"}),
  };
}

std::vector<HostileCase> OtherDirectoryCases() {
  HostileCase absent =
      Directory("NoSuchDirectory", {}, {"none: cannot be opened"}, ErrorCode::kNotFound);
  absent.open = [](const std::string& directory) { OpenSafetensors(directory + "/none"); };
  HostileCase absent_index =
      Directory("NoSuchIndex", {}, {"index.json: cannot be opened"}, ErrorCode::kNotFound);
  absent_index.open = [](const std::string& directory) {
    OpenSafetensors(directory + "/model.safetensors.index.json");
  };
  HostileCase index_is_directory =
      Directory("IndexIsADirectory", {}, {"index.json: not a regular file"}, ErrorCode::kNotFound);
  index_is_directory.open = [](const std::string& directory) {
    std::filesystem::create_directories(directory + "/model.safetensors.index.json");
    OpenSafetensors(directory);
  };
  return {
      absent,
      absent_index,
      index_is_directory,
      Directory("EmptyDirectory", {}, {"not a model"}, ErrorCode::kNotFound),
      Directory("ShardsWithoutIndex", {{"model-00001-of-00002.safetensors", Shard({"a"})}},
                {"model.safetensors.index.json is missing", "model-00001-of-00002.safetensors"},
                ErrorCode::kNotFound),
      Directory("PickleOnly", {{"pytorch_model.bin", "PK\3\4"}, {"config.json", "{}"}},
                {"pytorch_model.bin", "pickle", "convert the model to safetensors"},
                ErrorCode::kUnimplemented),
      Directory("GgufOnly", {{"model-q4.gguf", "GGUF"}}, {"model-q4.gguf", "name the GGUF file"},
                ErrorCode::kUnimplemented),
  };
}

}  // namespace

std::vector<HostileCase> SafetensorsIndexCases() {
  std::vector<HostileCase> all;
  for (const auto& cases :
       {JsonCases(), ShardNameCases(), AgreementCases(), OtherDirectoryCases()}) {
    all.insert(all.end(), cases.begin(), cases.end());
  }
  return all;
}

}  // namespace baleen::hostile
