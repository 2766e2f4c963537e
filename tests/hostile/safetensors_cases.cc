// Every way in which one safetensors file can be wrong.
#include <fmt/format.h>
#include <sys/stat.h>

#include <filesystem>

#include "formats/safetensors.h"
#include "hostile/hostile.h"

namespace baleen::hostile {

namespace {

namespace fs = std::filesystem;

std::string LittleEndian(uint64_t value) {
  std::string bytes;
  for (size_t i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(value >> (8 * i)));
  return bytes;
}

std::string File(const std::string& header, size_t data_bytes) {
  return LittleEndian(header.size()) + header + std::string(data_bytes, 'd');
}

// One tensor "w" with these members.
std::string Tensor(const std::string& members) { return fmt::format("{{\"w\":{{{}}}}}", members); }

HostileCase Single(const std::string& name, const std::string& content,
                   std::vector<std::string> fragments, ErrorCode code = ErrorCode::kCorruption) {
  fragments.push_back("model.safetensors: ");
  return {.name = name,
          .files = {{"model.safetensors", content}},
          .open = [](const std::string& directory) { OpenSafetensors(directory); },
          .code = code,
          .fragments = std::move(fragments)};
}

std::vector<HostileCase> LengthCases() {
  return {
      Single("EmptyFile", "", {"the file is empty", "download it again"}),
      Single("SevenBytes", "\1\0\0\0\0\0\0", {"1 bytes", "8 bytes of length"}),
      Single("HugeHeaderLength", LittleEndian(uint64_t{1} << 63) + "{}",
             {"at offset 0", "9223372036854775808 bytes", "100000000"}),
      Single("HeaderLengthOfAllOnes", LittleEndian(~uint64_t{0}) + "{}",
             {"at offset 0", "18446744073709551615 bytes"}),
      Single("HeaderJustAboveTheLimit", LittleEndian(100'000'001) + "{}",
             {"100000001 bytes, more than the 100000000"}),
      Single("HeaderLongerThanTheFile", LittleEndian(100) + "{}",
             {"cut short", "at offset 0", "100 bytes", "2 follow", "98 bytes are missing",
              "download"}),
      Single("HeaderOfZeroBytes", LittleEndian(0), {"at offset 0", "0 bytes"}),
      Single("LfsPointer",
             "version https://git-lfs.github.com/spec/v1\n"
             "oid sha256:4665465465465465465465465465465465465465465465465465465465465465\n"
             "size 4302348912\n",
             {"Git LFS pointer", "git lfs pull"}),
      Single("GgufUnderThisName", "GGUF\3\0\0\0", {"GGUF file"}),
      Single("ZipUnderThisName", "PK\3\4" + std::string(100, '\0'), {"pickle", "convert"}),
      Single("WebPageUnderThisName", "<!DOCTYPE html><html>404</html>", {"web page", "download"}),
  };
}

std::vector<HostileCase> JsonCases() {
  HostileCase deep = Single("HeaderNestedDeeply", File("{\"w\":" + std::string(1'000'000, '['), 0),
                            {"header at offset 8", "not valid JSON"});
  HostileCase dense =
      Single("HeaderDenseWithNumbers", File("{\"w\":[" + std::string(2'000'000, '0'), 0),
             {"header at offset 8", "not valid JSON"});
  std::string many = "{\"w\":[";
  for (int i = 0; i < 500'000; ++i) many += "0,";
  HostileCase dense_values = Single("HeaderDenseWithValues", File(many + "0]}", 0),
                                    {"tensor \"w\"", "expected an object"});
  return {
      Single("HeaderIsAnArray", File("[]", 0), {"offset 8", "begins with \"[\"", "expected \"{\""}),
      Single("HeaderBeginsWithSpace", File(" {}", 0), {"offset 8", "begins with \" \""}),
      Single("HeaderBeginsWithByteOrderMark", File("\xef\xbb\xbf{}", 0), {"offset 8", "\\xef"}),
      Single("HeaderCutInTheJson", File("{\"w\":{\"dtype\"", 0),
             {"header at offset 8", "not valid JSON"}),
      Single("HeaderWithTextAfterTheJson", File("{} {}", 0),
             {"header at offset 8", "not valid JSON"}),
      Single("HeaderPaddedWithZeros", File("{}" + std::string(6, '\0'), 0),
             {"header at offset 8", "not valid JSON"}),
      Single("HeaderWithBrokenUtf8", File("{\"\xff\xfe\":1}", 0),
             {"header at offset 8", "not valid JSON"}),
      deep,
      dense,
      dense_values,
  };
}

std::vector<HostileCase> MetadataCases() {
  return {
      Single("MetadataIsAString", File(R"({"__metadata__":"pt"})", 0),
             {"__metadata__", "not an object"}),
      Single("MetadataWithANumber", File(R"({"__metadata__":{"format":1}})", 0),
             {"__metadata__ \"format\"", "not a string"}),
      Single("MetadataTwice", File(R"({"__metadata__":{},"__metadata__":{}})", 0),
             {"__metadata__ comes twice"}),
      Single("MetadataKeyTwice", File(R"({"__metadata__":{"a":"1","a":"2"}})", 0),
             {"__metadata__ \"a\" comes twice"}),
  };
}

std::vector<HostileCase> TensorCases() {
  std::string ones;
  for (int i = 0; i < 64; ++i) ones += ",1";
  return {
      Single("TensorIsANumber", File(R"({"w":1})", 0), {"tensor \"w\"", "expected an object"}),
      Single("NoDtype", File(Tensor(R"("shape":[],"data_offsets":[0,4])"), 4),
             {"tensor \"w\": no dtype"}),
      Single("NoShape", File(Tensor(R"("dtype":"F32","data_offsets":[0,4])"), 4),
             {"tensor \"w\": no shape"}),
      Single("NoOffsets", File(Tensor(R"("dtype":"F32","shape":[])"), 4),
             {"tensor \"w\": no data_offsets"}),
      Single("UnknownKey",
             File(Tensor(R"("dtype":"U8","shape":[4],"strides":[2],"data_offsets":[0,4])"), 4),
             {"tensor \"w\"", "unknown key \"strides\""}),
      Single("KeyTwice",
             File(Tensor(R"("dtype":"U8","dtype":"I8","shape":[4],"data_offsets":[0,4])"), 4),
             {"tensor \"w\"", "\"dtype\" comes twice"}),
      Single("DtypeIsANumber", File(Tensor(R"("dtype":32,"shape":[],"data_offsets":[0,4])"), 4),
             {"tensor \"w\"", "dtype is not a string"}),
      Single("UnknownDtype", File(Tensor(R"("dtype":"F31","shape":[],"data_offsets":[0,4])"), 4),
             {"tensor \"w\"", "unknown dtype \"F31\""}),
      Single("DtypeThatWeLack",
             File(Tensor(R"("dtype":"C64","shape":[1],"data_offsets":[0,8])"), 8),
             {"tensor \"w\"", "C64", "not supported"}, ErrorCode::kUnimplemented),
      Single("DtypeOfHalfBytes",
             File(Tensor(R"("dtype":"F4","shape":[2],"data_offsets":[0,1])"), 1),
             {"tensor \"w\"", "F4", "not supported"}, ErrorCode::kUnimplemented),
      Single("ShapeIsANumber", File(Tensor(R"("dtype":"U8","shape":4,"data_offsets":[0,4])"), 4),
             {"tensor \"w\"", "shape is not an array"}),
      Single("NegativeDimension",
             File(Tensor(R"("dtype":"U8","shape":[4,-1],"data_offsets":[0,4])"), 4),
             {"tensor \"w\"", "dimension 1"}),
      Single("FractionalDimension",
             File(Tensor(R"("dtype":"U8","shape":[4.0],"data_offsets":[0,4])"), 4),
             {"tensor \"w\"", "dimension 0"}),
      Single("DimensionBeyond64Bits",
             File(Tensor(R"("dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,4])"), 4),
             {"header at offset 8"}),
      Single("SixtyFiveDimensions",
             File(Tensor(R"("dtype":"U8","data_offsets":[0,1],"shape":[1)" + ones + "]"), 1),
             {"tensor \"w\"", "more than 64 dimensions"}),
      Single(
          "ProductOverflow",
          File(Tensor(R"("dtype":"U8","shape":[4294967296,4294967297],"data_offsets":[0,0])"), 0),
          {"tensor \"w\"", "[4294967296, 4294967297]", "more than 2^64 bytes"}),
      Single("ProductOverflowByElementSize",
             File(Tensor(R"("dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0])"), 0),
             {"tensor \"w\"", "more than 2^64 bytes"}),
      Single("SizeTooSmall",
             File(Tensor(R"("dtype":"F32","shape":[2,3],"data_offsets":[0,20])"), 20),
             {"tensor \"w\"", "[0, 20] span 20 bytes", "F32 of shape [2, 3] needs 24"}),
      Single("SizeTooLarge", File(Tensor(R"("dtype":"F32","shape":[],"data_offsets":[0,8])"), 8),
             {"tensor \"w\"", "span 8 bytes", "shape [] needs 4"}),
      Single("TensorTwice",
             File(R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                  R"("w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                  2),
             {"tensor \"w\" comes twice"}),
      Single("NameThatForgesLines", File(R"({"a\nb\u001b[2J":1})", 0), {"\"a\\nb\\x1b[2J\""}),
      Single("NameOfAMegabyte", File("{\"" + std::string(1'000'000, 'n') + "\":1}", 0),
             {"(1000000 bytes)"}),
  };
}

std::vector<HostileCase> OffsetCases() {
  return {
      Single("OffsetsAreAString",
             File(Tensor(R"("dtype":"U8","shape":[4],"data_offsets":"0,4")"), 4),
             {"tensor \"w\"", "data_offsets is not an array"}),
      Single("OneOffset", File(Tensor(R"("dtype":"U8","shape":[4],"data_offsets":[0])"), 4),
             {"tensor \"w\"", "1 numbers, expected two"}),
      Single("ThreeOffsets", File(Tensor(R"("dtype":"U8","shape":[4],"data_offsets":[0,4,8])"), 4),
             {"tensor \"w\"", "more than two"}),
      Single("NegativeOffset", File(Tensor(R"("dtype":"U8","shape":[4],"data_offsets":[-4,0])"), 4),
             {"tensor \"w\"", "not two whole numbers"}),
      Single("EndBeforeBegin", File(Tensor(R"("dtype":"U8","shape":[4],"data_offsets":[4,0])"), 4),
             {"tensor \"w\"", "[4, 0] end before they begin"}),
      // The header has 54 bytes, so the data begins at 62.
      Single("CutInTheData", File(Tensor(R"("dtype":"U8","shape":[8],"data_offsets":[0,8] )"), 4),
             {"cut short", "promises 70 bytes, the file has 66", "4 bytes are missing",
              "tensor \"w\"", "download the file again"}),
      Single("EndNear64Bits",
             File(Tensor(R"("dtype":"U8","shape":[18446744073709551615],)"
                         R"("data_offsets":[0,18446744073709551615])"),
                  4),
             {"cut short", "tensor \"w\""}),
      // The header has 105 bytes, so the data begins at 113.
      Single("Overlap",
             File(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                  R"("b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}})",
                  7),
             {"tensor \"b\" begins at offset 116", "inside tensor \"a\"", "ends at 117"}),
      Single("SameRangeTwice",
             File(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                  R"("b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
                  4),
             {"begins at offset", "inside tensor"}),
      Single("EmptyTensorInsideAnother",
             File(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                  R"("b":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}})",
                  4),
             {"tensor \"b\" begins at offset", "inside tensor \"a\""}),
      Single("Hole",
             File(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                  R"("b":{"dtype":"U8","shape":[4],"data_offsets":[6,10]}})",
                  10),
             {"tensor \"b\"", "tensor \"a\" ends at", "a hole of 2 bytes"}),
      Single("HoleAtTheStart", File(Tensor(R"("dtype":"U8","shape":[4],"data_offsets":[1,5])"), 5),
             {"tensor \"w\"", "start of the data", "a hole of 1 bytes"}),
      Single("BytesAfterTheLastTensor",
             File(Tensor(R"("dtype":"U8","shape":[4],"data_offsets":[0,4])"), 7),
             {"3 bytes after the last tensor", "offset", "belong to no tensor"}),
      Single("DataWithoutTensors", File("{}", 3), {"3 bytes after the last tensor", "offset 10"}),
  };
}

std::vector<HostileCase> PathCases() {
  HostileCase directory = Single("DirectoryUnderThisName", "", {"not a regular file"});
  directory.code = ErrorCode::kNotFound;
  directory.files.clear();
  directory.open = [](const std::string& path) {
    fs::create_directories(path + "/model.safetensors");
    OpenSafetensors(path);
  };
  HostileCase pipe = directory;
  pipe.name = "PipeUnderThisName";
  pipe.open = [](const std::string& path) {
    mkfifo((path + "/model.safetensors").c_str(), 0600);
    OpenSafetensors(path);
  };
  HostileCase absent = directory;
  absent.name = "NoSuchFile";
  absent.open = [](const std::string& path) { OpenSafetensors(path + "/model.safetensors"); };
  absent.fragments = {"model.safetensors: cannot be opened"};
  return {directory, pipe, absent};
}

}  // namespace

std::vector<HostileCase> SafetensorsCases() {
  std::vector<HostileCase> all;
  for (const auto& cases :
       {LengthCases(), JsonCases(), MetadataCases(), TensorCases(), OffsetCases(), PathCases()}) {
    all.insert(all.end(), cases.begin(), cases.end());
  }
  return all;
}

}  // namespace baleen::hostile
