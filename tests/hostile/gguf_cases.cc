// Every way in which a GGUF file, its parts or its keys can be wrong.
#include <fmt/format.h>

#include "checkpoint/checkpoint.h"
#include "formats/gguf.h"
#include "hostile/hostile.h"

namespace baleen::hostile {

namespace {

std::string Bytes(uint64_t value, size_t count) {
  std::string bytes;
  for (size_t i = 0; i < count; ++i) bytes.push_back(static_cast<char>(value >> (8 * i)));
  return bytes;
}
std::string U32(uint64_t value) { return Bytes(value, 4); }
std::string U64(uint64_t value) { return Bytes(value, 8); }
std::string String(const std::string& text) { return U64(text.size()) + text; }

// Numbers of types of values.
constexpr uint64_t kU16 = 2, kU32 = 4, kI32 = 5, kF32 = 6, kBool = 7, kString = 8, kArray = 9;

// A key with a value of `type`, as it stands in the file.
std::string Key(const std::string& name, uint64_t type, const std::string& value) {
  return String(name) + U32(type) + value;
}

// The description of a tensor.
std::string Info(const std::string& name, const std::vector<uint64_t>& dims, uint64_t type,
                 uint64_t offset) {
  std::string info = String(name) + U32(dims.size());
  for (uint64_t dim : dims) info += U64(dim);
  return info + U32(type) + U64(offset);
}

std::string Header(uint64_t tensors, uint64_t keys) {
  return "GGUF" + U32(3) + U64(tensors) + U64(keys);
}

// A whole file: keys, descriptions, padding, `data_bytes` of data.
std::string File(const std::vector<std::string>& keys, const std::vector<std::string>& tensors,
                 size_t data_bytes = 0) {
  std::string file = Header(tensors.size(), keys.size());
  for (const std::string& key : keys) file += key;
  for (const std::string& tensor : tensors) file += tensor;
  file.resize((file.size() + 31) / 32 * 32);
  return file + std::string(data_bytes, 'd');
}

HostileCase Single(const std::string& name, const std::string& content,
                   std::vector<std::string> fragments, ErrorCode code = ErrorCode::kCorruption) {
  fragments.push_back("model.gguf: ");
  return {.name = "Gguf" + name,
          .files = {{"model.gguf", content}},
          .open = [](const std::string& directory) { GgufModel model(directory + "/model.gguf"); },
          .code = code,
          .fragments = std::move(fragments)};
}

std::vector<HostileCase> PreambleCases() {
  const auto unread = ErrorCode::kUnimplemented;
  return {
      Single("Empty", "", {"the file is empty", "download it again"}),
      Single("ThreeBytes", "GGU", {"cut short", "at offset 0", "the magic"}),
      Single("OtherMagic", "FUGG" + U32(3), {"not a GGUF file", "\"FUGG\""}),
      Single("LfsPointer", "version https://git-lfs.github.com/spec/v1\n", {"Git LFS pointer"}),
      Single("WebPage", "<!DOCTYPE html>", {"web page"}),
      Single("OldGgml", "tjgg" + U32(3), {"before GGUF", "convert"}),
      Single("BigEndian", "GGUF" + std::string("\0\0\0\3", 4) + U64(0), {"big-endian"}, unread),
      Single("VersionZero", "GGUF" + U32(0), {"at offset 4", "version 0"}),
      Single("VersionOne", "GGUF" + U32(1) + U64(0), {"at offset 4", "version 1"}, unread),
      Single("VersionFour", "GGUF" + U32(4) + U64(0), {"at offset 4", "version 4"}, unread),
      Single("EndsInTheVersion", "GGUF\3", {"cut short", "at offset 4", "the version"}),
      Single("EndsInTheCounts", "GGUF" + U32(3) + U64(0), {"cut short", "at offset 16", "keys"}),
      Single("HugeTensorCount", Header(uint64_t{1} << 60, 0),
             {"at offset 8", "1152921504606846976 tensors", "8 bytes that follow"}),
      Single("HugeKeyCount", Header(0, ~uint64_t{0}) + std::string(100, 'k'),
             {"at offset 16", "18446744073709551615 keys", "100 bytes that follow"}),
  };
}

std::vector<HostileCase> KeyCases() {
  std::string nested = U32(kArray) + U64(1);
  for (int i = 0; i < 50'000; ++i) nested += U32(kArray) + U64(1);
  return {
      Single("KeyLongerThanTheFile", Header(0, 1) + U64(1000) + std::string(20, 'k'),
             {"cut short", "at offset 32", "key 0", "1000 bytes", "20 are left"}),
      Single("KeyOfAllOnes", Header(0, 1) + U64(~uint64_t{0}) + std::string(20, 'k'),
             {"cut short", "18446744073709551615 bytes"}),
      Single("EmptyKey", File({Key("", kU32, U32(1))}, {}), {"at offset 24", "key 0 has 0 bytes"}),
      Single("OverlongKey", File({Key(std::string(70'000, 'k'), kU32, U32(1))}, {}),
             {"at offset 24", "70000 bytes", "65535"}),
      Single("UnknownValueType", File({Key("a", 13, U32(1))}, {}),
             {"at offset 33", "key \"a\"", "unknown type 13"}),
      Single("UnknownElementType", File({Key("a", kArray, U32(99) + U64(1))}, {}),
             {"at offset 37", "key \"a\"", "unknown type 99"}),
      Single("StringBeyondTheEnd", File({Key("a", kString, U64(5'000'000'000))}, {}),
             {"cut short", "key \"a\"", "5000000000 bytes"}),
      Single("ArrayBeyondTheEnd", File({Key("a", kArray, U32(kU32) + U64(uint64_t{1} << 62))}, {}),
             {"at offset 41", "key \"a\"", "4611686018427387904 elements"}),
      Single("ArrayOfStringsBeyondTheEnd",
             File({Key("a", kArray, U32(kString) + U64(2) + String("x") + U64(1 << 30))}, {}),
             {"cut short", "a string in key \"a\"", "1073741824 bytes"}),
      Single("ArrayWithManyStrings",
             File({Key("a", kArray, U32(kString) + U64(1'000'000'000))}, {}, 1000),
             {"at offset 41", "1000000000 elements"}),
      Single("NestedArrays", File({Key("a", kArray, nested)}, {}),
             {"key \"a\"", "nests arrays more than 8 deep"}),
      Single("BoolOfTwo", File({Key("a", kBool, "\2")}, {}),
             {"at offset 37", "key \"a\"", "value 2"}),
      Single("KeyTwice",
             File({Key("a", kU32, U32(1)), Key("b", kU32, U32(1)), Key("a", kU32, U32(2))}, {}),
             {"key \"a\" comes twice", "again at offset 66"}),
      Single("KeyThatForgesLines", File({Key("a\nb", 13, U32(1))}, {}), {"key \"a\\nb\""}),
      Single("AlignmentZero", File({Key("general.alignment", kU32, U32(0))}, {}),
             {"general.alignment", "is 0", "power of two"}),
      Single("AlignmentOdd", File({Key("general.alignment", kU32, U32(24))}, {}),
             {"general.alignment", "is 24"}),
      Single("AlignmentHuge", File({Key("general.alignment", kU32, U32(uint64_t{1} << 31))}, {}),
             {"general.alignment", "is 2147483648"}),
      Single("AlignmentString", File({Key("general.alignment", kString, String("32"))}, {}),
             {"general.alignment", "not a whole number"}),
  };
}

std::vector<HostileCase> TensorCases() {
  const auto unread = ErrorCode::kUnimplemented;
  const uint64_t f32 = 0, q8_0 = 8, q4_k = 12;
  const auto one = [&](const std::string& info, size_t data_bytes = 64) {
    return File({}, {info}, data_bytes);
  };
  return {
      Single("TensorWithoutName", one(Info("", {8}, f32, 0)), {"at offset 24", "0 bytes"}),
      Single("TensorWithLongName", one(Info(std::string(65, 'n'), {8}, f32, 0)),
             {"at offset 24", "65 bytes", "1 to 64"}),
      Single("NoDimensions", one(Info("w", {}, f32, 0) + "        "),
             {"at offset 33", "tensor \"w\"", "0 dimensions"}),
      Single("FiveDimensions", one(Info("w", {1, 1, 1, 1, 8}, f32, 0)),
             {"tensor \"w\"", "5 dimensions"}),
      Single("BillionsOfDimensions", File({}, {String("w") + U32(0xffffffff)}, 64),
             {"tensor \"w\"", "4294967295 dimensions"}),
      Single("ZeroDimension", one(Info("w", {8, 0}, f32, 0)),
             {"at offset 45", "dimension 1 of tensor \"w\" is 0"}),
      Single("UnknownTensorType", one(Info("w", {8}, 4711, 0)),
             {"at offset 45", "tensor \"w\"", "number 4711"}, unread),
      Single("UnsupportedTensorType", one(Info("w", {256}, 16, 0)), {"tensor \"w\"", "IQ2_XXS"},
             unread),
      Single("ObsoleteTensorType", one(Info("w", {256}, 31, 0)), {"tensor \"w\"", "Q4_0_4_4"},
             unread),
      Single("BrokenBlocks", one(Info("w", {31}, q8_0, 0)),
             {"tensor \"w\"", "31 elements", "32 in a block of Q8_0"}),
      Single("RowsOfBrokenBlocks", one(Info("w", {128, 2}, q4_k, 0), 144),
             {"tensor \"w\"", "128 elements", "256 in a block of Q4_K"}),
      Single("ElementsOverflow", one(Info("w", {uint64_t{1} << 32, uint64_t{1} << 32, 2}, f32, 0)),
             {"tensor \"w\"", "more than 2^64 bytes"}),
      Single("BytesOverflow", one(Info("w", {uint64_t{1} << 63}, f32, 0)),
             {"tensor \"w\"", "more than 2^64 bytes"}),
      Single("Misaligned", one(Info("w", {8}, f32, 16)),
             {"at offset 49", "tensor \"w\"", "lies at 16", "alignment 32"}),
      Single("OffsetBeyondTheEnd", one(Info("w", {8}, f32, 1 << 20)),
             {"cut short", "tensor \"w\"", "at offset 24", "1048576"}),
      Single("OffsetNearTheTop", one(Info("w", {8}, f32, ~uint64_t{31})),
             {"cut short", "tensor \"w\"", "18446744073709551584"}),
      Single("DataMissing", one(Info("w", {8}, f32, 0), 0),
             {"cut short", "tensor \"w\"", "32 bytes", "0 bytes of data"}),
      Single("TensorTwice", File({}, {Info("w", {8}, f32, 0), Info("w", {8}, f32, 32)}, 64),
             {"tensor \"w\" comes twice", "again at offset"}),
      Single("Overlap", File({}, {Info("v", {16}, f32, 0), Info("w", {8}, f32, 32)}, 64),
             {"tensor \"w\" begins at offset 128", "inside tensor \"v\"", "160"}),
      Single("SamePlace", File({}, {Info("v", {8}, f32, 0), Info("w", {8}, f32, 0)}, 64),
             {"inside tensor"}),
      Single("Hole", File({}, {Info("v", {8}, f32, 0), Info("w", {8}, f32, 96)}, 128),
             {"tensor \"w\"", "a hole of 64 bytes"}),
      Single("BytesLeftOver", one(Info("w", {8}, f32, 0), 128),
             {"96 bytes after tensor \"w\"", "belong to no tensor"}),
      Single("EndsInADescription", Header(1, 0) + Info("w", {8}, f32, 0).substr(0, 31) + "xx",
             {"cut short", "tensor \"w\""}),
  };
}

std::string Part(uint64_t number, uint64_t count, const std::string& tensor) {
  return File({Key("split.no", kU16, Bytes(number, 2)), Key("split.count", kU16, Bytes(count, 2)),
               Key("split.tensors.count", kI32, U32(2))},
              {Info(tensor, {8}, 0, 0)}, 32);
}

HostileCase Split(const std::string& name, std::map<std::string, std::string> files,
                  std::vector<std::string> fragments, ErrorCode code = ErrorCode::kCorruption,
                  const std::string& opened = "m-00001-of-00002.gguf") {
  return {
      .name = "GgufSplit" + name,
      .files = std::move(files),
      .open = [opened](const std::string& directory) { GgufModel model(directory + "/" + opened); },
      .code = code,
      .fragments = std::move(fragments)};
}

std::vector<HostileCase> SplitCases() {
  const std::string first = "m-00001-of-00002.gguf", second = "m-00002-of-00002.gguf";
  return {
      Split("PartMissing", {{first, Part(0, 2, "a")}}, {second}, ErrorCode::kNotFound),
      Split("LaterPart", {{first, Part(0, 2, "a")}, {second, Part(1, 2, "b")}},
            {"part 2 of 2", "name the first", first}, ErrorCode::kInvalidArgument, second),
      Split("Renamed", {{"m.gguf", Part(0, 2, "a")}}, {"part 1 of 2", "-00001-of-00002.gguf"},
            ErrorCode::kInvalidArgument, "m.gguf"),
      Split("NumberBeyondTheCount", {{first, Part(7, 2, "a")}}, {"split.no 7", "split.count 2"}),
      Split("SamePartTwice", {{first, Part(0, 2, "a")}, {second, Part(0, 2, "b")}},
            {second, "says that it is part 1 of 2", "name says part 2 of 2"}),
      Split("OtherCount", {{first, Part(0, 2, "a")}, {second, Part(1, 3, "b")}},
            {second, "part 2 of 3"}),
      Split("TensorInTwoParts", {{first, Part(0, 2, "a")}, {second, Part(1, 2, "a")}},
            {"tensor \"a\"", second}),
      Split(
          "WrongTotal",
          {{first, Part(0, 2, "a")},
           {second,
            File({Key("split.no", kU16, Bytes(1, 2)), Key("split.count", kU16, Bytes(2, 2))}, {})}},
          {"split.tensors.count is 2", "1 tensors"}),
  };
}

// A file of keys only, opened as a model.
HostileCase Model(const std::string& name, const std::vector<std::string>& keys,
                  std::vector<std::string> fragments, ErrorCode code = ErrorCode::kCorruption) {
  HostileCase hostile = Single("Model" + name, File(keys, {}), std::move(fragments), code);
  hostile.open = [](const std::string& directory) { OpenCheckpoint(directory + "/model.gguf"); };
  return hostile;
}

std::vector<std::string> ModelKeys() {
  std::vector<std::string> keys = {Key("general.architecture", kString, String("deepseek2"))};
  for (const auto& [name, value] : std::map<std::string, uint64_t>{{"vocab_size", 300},
                                                                   {"context_length", 64},
                                                                   {"embedding_length", 8},
                                                                   {"feed_forward_length", 8},
                                                                   {"block_count", 1},
                                                                   {"attention.head_count", 2},
                                                                   {"attention.key_length", 8},
                                                                   {"attention.value_length", 4},
                                                                   {"attention.kv_lora_rank", 8},
                                                                   {"rope.dimension_count", 4}}) {
    keys.push_back(Key("deepseek2." + name, kU32, U32(value)));
  }
  return keys;
}

// A key more.
HostileCase With(const std::string& name, const std::string& key, uint64_t type,
                 const std::string& value, std::vector<std::string> fragments,
                 ErrorCode code = ErrorCode::kCorruption) {
  std::vector<std::string> keys = ModelKeys();
  keys.push_back(Key(key, type, value));
  return Model(name, keys, std::move(fragments), code);
}

std::vector<HostileCase> ModelCases() {
  const auto unread = ErrorCode::kUnimplemented;
  const std::string tokens = U32(kString) + U64(1) + String("a");
  std::vector<std::string> without_rank = ModelKeys();
  std::erase_if(without_rank, [](const std::string& key) {
    return key.find("kv_lora_rank") != std::string::npos;
  });
  std::vector<std::string> text = ModelKeys();
  text.push_back(Key("tokenizer.ggml.model", kString, String("gpt2")));
  text.push_back(Key("tokenizer.ggml.tokens", kArray, tokens));
  std::vector<std::string> other_pre = text;
  other_pre.push_back(Key("tokenizer.ggml.pre", kString, String("llama-bpe")));
  std::vector<std::string> types = text;
  types.push_back(Key("tokenizer.ggml.pre", kString, String("deepseek-v3")));
  types.push_back(Key("tokenizer.ggml.token_type", kArray, U32(kI32) + U64(2) + U64(1)));
  return {
      Model("WithoutArchitecture", {}, {"general.architecture is missing"}),
      Model("Dense", {Key("general.architecture", kString, String("llama"))},
            {"architecture \"llama\"", "deepseek2"}, unread),
      Model("WithoutRank", without_rank, {"deepseek2.attention.kv_lora_rank is missing"}),
      Model("WithoutTensors", ModelKeys(), {"the weights lack tensors"}),
      Model("OtherPreTokenizer", other_pre, {"llama-bpe"}, unread),
      Model("WithoutPreTokenizer", text, {"tokenizer.ggml.pre is missing"}, unread),
      Model("TokenTypes", types, {"1 tokens but 2 token types"}),
      With("HeadsAndKeys", "deepseek2.attention.head_count_kv", kU32, U32(3),
           {"head_count_kv is 3", "expected 2 or 1"}, unread),
      With("NarrowKeys", "deepseek2.attention.key_length_mla", kU32, U32(4),
           {"key_length_mla is 4", "rope.dimension_count 4"}),
      With("WordForANumber", "deepseek2.expert_count", kString, String("many"),
           {"deepseek2.expert_count", "not a whole number"}),
      With("NegativeNumber", "deepseek2.expert_count", kI32, U32(0xffffffff),
           {"deepseek2.expert_count", "whole number from 0"}),
      With("NanTheta", "deepseek2.rope.freq_base", kF32, U32(0x7fc00000),
           {"rope.freq_base is nan", "finite"}),
      With("OtherRope", "deepseek2.rope.scaling.type", kString, String("linear"),
           {"rope.scaling.type", "\"linear\""}, unread),
      With("YarnWithoutScale", "deepseek2.rope.scaling.type", kString, String("yarn"),
           {"rope.scaling.factor is missing"}),
      With("OtherGating", "deepseek2.expert_gating_func", kU32, U32(9), {"expert_gating_func is 9"},
           unread),
      With("BillionsOfExperts", "deepseek2.expert_count", kU32, U32(0xffffffff), {"expert_"}),
  };
}

}  // namespace

std::vector<HostileCase> GgufCases() {
  std::vector<HostileCase> all;
  for (const auto& cases :
       {PreambleCases(), KeyCases(), TensorCases(), SplitCases(), ModelCases()}) {
    all.insert(all.end(), cases.begin(), cases.end());
  }
  // Errors of opening a model name the tensors, not always the file.
  for (HostileCase& hostile : all) {
    if (hostile.name == "GgufModelWithoutTensors") hostile.fragments.pop_back();
  }
  return all;
}

}  // namespace baleen::hostile
