// The loaders on small files made here: what they accept, and each thing that they refuse.

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8.h"

namespace baleen {
namespace {

// Byte-level spelling of one byte, after GPT-2's encoder.py.
std::string Spelling(int byte) {
  std::string spelling;
  uint32_t next = 0x100;
  for (int b = 0; b <= byte; ++b) {
    const bool is_printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    spelling.clear();
    AppendUtf8(is_printable ? static_cast<uint32_t>(b) : next++, &spelling);
  }
  return spelling;
}

std::string Quoted(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + '"';
}

// The parts of a small tokenizer.json; tests change one of them. Ids 0-255 are the bytes, 256 "he",
// 257 "hel", 258 "lo", 259 "hello"; 260 to 262 are added.
struct MiniJson {
  std::string normalizer = "null";
  std::string pre_tokenizer =
      R"({"type":"Sequence","pretokenizers":[)"
      R"({"type":"Split","pattern":{"Regex":"\\p{N}{1,3}"},"behavior":"Isolated","invert":false},)"
      R"({"type":"Split","pattern":{"Regex":"[一-龥぀-ゟ゠-ヿ]+"},"behavior":"Isolated","invert":false},)"
      R"({"type":"Split","pattern":{"Regex":"[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|)"
      R"([^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"},)"
      R"("behavior":"Isolated","invert":false},)"
      R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}]})";
  std::string decoder = R"({"type":"ByteLevel"})";
  std::string added_tokens = R"([{"id":260,"content":"<s>","special":true,"normalized":false},)"
                             R"({"id":261,"content":"<s>>","special":false,"normalized":true},)"
                             R"({"id":262,"content":"ü","special":false,"normalized":false}])";
  std::string model_type = R"("BPE")";
  std::string model_options;  // each followed by a comma
  std::string extra_vocab;    // each after a comma
  std::string merges = R"(["h e", ["he","l"], "l o", "hel lo"])";
  int last_byte = 0xF4;  // the vocabulary of DeepSeek-V2 ends there too

  std::string Text() const {
    std::string vocab;
    for (int byte = 0; byte <= last_byte; ++byte) {
      vocab += Quoted(Spelling(byte)) + ":" + std::to_string(byte) + ",";
    }
    vocab += R"("he":256,"hel":257,"lo":258,"hello":259)" + extra_vocab;
    return R"({"version":"1.0","truncation":null,"added_tokens":)" + added_tokens +
           R"(,"normalizer":)" + normalizer + R"(,"pre_tokenizer":)" + pre_tokenizer +
           R"(,"post_processor":null,"decoder":)" + decoder + R"(,"model":{"type":)" + model_type +
           "," + model_options + R"("vocab":{)" + vocab + R"(},"merges":)" + merges + "}}";
  }
};

std::unique_ptr<Tokenizer> Load(const MiniJson& json) {
  return Tokenizer::FromJson(json.Text(), "mini.json");
}

// Checks that `load` throws an Error with `code` whose message holds `words` and the source's name.
void ExpectRefused(const std::function<void()>& load, ErrorCode code, const std::string& words) {
  try {
    load();
    ADD_FAILURE() << "accepted; expected: " << words;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
    EXPECT_EQ(std::string(error.what()).find("mini"), 0u) << error.what();
  }
}

void ExpectRefused(const MiniJson& json, ErrorCode code, const std::string& words) {
  ExpectRefused([&json] { Load(json); }, code, words);
}

TEST(TokenizerJsonTest, EncodesAndDecodes) {
  const std::unique_ptr<Tokenizer> tokenizer = Load({});
  EXPECT_EQ(tokenizer->vocab_size(), 263);
  EXPECT_EQ(tokenizer->Encode("hello", false), (std::vector<int32_t>{259}));
  EXPECT_EQ(tokenizer->Encode("hel o<s>", true), (std::vector<int32_t>{257, ' ', 'o', 260}));
  EXPECT_EQ(tokenizer->Encode("<s>", false), (std::vector<int32_t>{'<', 's', '>'}));
  EXPECT_EQ(tokenizer->TokenBytes(257), "hel");
  EXPECT_EQ(tokenizer->TokenBytes(0xF4), "\xF4");
  EXPECT_EQ(tokenizer->TokenBytes(263), "");
  EXPECT_EQ(tokenizer->TokenBytes(-1), "");
  EXPECT_EQ(tokenizer->TokenId("<s>"), 260);
  EXPECT_EQ(tokenizer->TokenId("hello"), std::nullopt);
  EXPECT_TRUE(tokenizer->IsSpecial(260));
  EXPECT_FALSE(tokenizer->IsSpecial(261));
  EXPECT_TRUE(tokenizer->IsAdded(261));
  EXPECT_FALSE(tokenizer->IsAdded(259));
  const std::vector<int32_t> ids{260, 259, 261, 0xC3, 1000, -5};
  EXPECT_EQ(tokenizer->Decode(ids, false), "<s>hello<s>>\uFFFD");
  EXPECT_EQ(tokenizer->Decode(ids, true), "hello<s>>\uFFFD");
}

// Raw names first, in all of the text: "<s>" wins over the longer "<s>>", which is normalized.
TEST(TokenizerJsonTest, RawNamesComeBeforeNormalizedOnes) {
  EXPECT_EQ(Load({})->Encode("<s>>", true), (std::vector<int32_t>{260, '>'}));
}

// An added token's name is its text, although "ü" also spells the byte FC.
TEST(TokenizerJsonTest, LatinLetterAsAddedToken) {
  const std::unique_ptr<Tokenizer> tokenizer = Load({});
  EXPECT_EQ(tokenizer->Encode("ü", true), (std::vector<int32_t>{262}));
  EXPECT_EQ(tokenizer->Encode("ü", false), (std::vector<int32_t>{0xC3, 0xBC}));
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{262}, true), "ü");
  // Bytes that the vocabulary lacks occur in broken text only.
  EXPECT_EQ(tokenizer->Encode("\xFF", true), (std::vector<int32_t>{0xEF, 0xBF, 0xBD}));
}

TEST(TokenizerJsonTest, AnyBytesComeBackAsTextWithReplacements) {
  MiniJson json;
  json.added_tokens = "[]";
  json.last_byte = 0xFF;
  const std::unique_ptr<Tokenizer> tokenizer = Load(json);
  const std::string broken = "a\xFF\xC3(\xE4\xB8";
  EXPECT_EQ(tokenizer->Encode(broken, true),
            (std::vector<int32_t>{'a', 0xFF, 0xC3, '(', 0xE4, 0xB8}));
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(broken, true), true), "a\uFFFD\uFFFD(\uFFFD");
}

TEST(TokenizerJsonTest, IgnoreMergesTakesWholePieces) {
  MiniJson json;
  json.merges = "[]";
  json.model_options = R"("ignore_merges":true,)";
  const std::unique_ptr<Tokenizer> tokenizer = Load(json);
  EXPECT_EQ(tokenizer->Encode("hello", true), (std::vector<int32_t>{259}));
  EXPECT_EQ(tokenizer->Encode("hello!", true), (std::vector<int32_t>{259, '!'}));
  EXPECT_EQ(tokenizer->Encode("hellos", true),
            (std::vector<int32_t>{'h', 'e', 'l', 'l', 'o', 's'}));
}

TEST(TokenizerJsonTest, RefusesWhatItDoesNotCompute) {
  const auto with = [](std::string MiniJson::*part, const char* value) {
    MiniJson json;
    json.*part = value;
    return json;
  };
  constexpr auto kUnimplemented = ErrorCode::kUnimplemented;
  ExpectRefused(with(&MiniJson::normalizer, R"({"type":"NFC"})"), kUnimplemented, "\"NFC\"");
  ExpectRefused(
      with(&MiniJson::normalizer, R"({"type":"Sequence","normalizers":[{"type":"NFC"}]})"),
      kUnimplemented, "normalizer");
  ExpectRefused(with(&MiniJson::decoder, R"({"type":"WordPiece"})"), kUnimplemented, "WordPiece");
  ExpectRefused(with(&MiniJson::pre_tokenizer, R"({"type":"Whitespace"})"), kUnimplemented,
                "Whitespace");
  ExpectRefused(with(&MiniJson::pre_tokenizer,
                     R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":true})"),
                kUnimplemented, "ByteLevel");
  ExpectRefused(with(&MiniJson::pre_tokenizer,
                     R"({"type":"Split","pattern":{"Regex":"x+"},"behavior":"Isolated"})"),
                kUnimplemented, "x+");
  ExpectRefused(with(&MiniJson::pre_tokenizer,
                     R"({"type":"Split","pattern":{"Regex":"x"},"behavior":"Removed"})"),
                kUnimplemented, "Isolated");
  ExpectRefused(with(&MiniJson::model_type, R"("Unigram")"), kUnimplemented, "Unigram");
  for (const char* option :
       {R"("dropout":0.1,)", R"("byte_fallback":true,)", R"("end_of_word_suffix":"</w>",)",
        R"("continuing_subword_prefix":"##",)", R"("new_option":1,)"}) {
    const std::string text = option;
    ExpectRefused(with(&MiniJson::model_options, option), kUnimplemented,
                  text.substr(0, text.find(':')));
  }
  for (const char* option : {"lstrip", "rstrip", "single_word"}) {
    const std::string token =
        fmt::format(R"([{{"id":260,"content":"<s>","special":true,"{}":true}}])", option);
    ExpectRefused(with(&MiniJson::added_tokens, token.c_str()), kUnimplemented, option);
  }
}

TEST(TokenizerJsonTest, AcceptsOptionsThatChangeNothing) {
  MiniJson json;
  json.normalizer = R"({"type":"Sequence","normalizers":[]})";
  json.model_options =
      R"("dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":"",)"
      R"("fuse_unk":false,"byte_fallback":false,"ignore_merges":false,)";
  EXPECT_EQ(Load(json)->Encode("hello", true), (std::vector<int32_t>{259}));
}

TEST(TokenizerJsonTest, RefusesDamage) {
  const auto with = [](std::string MiniJson::*part, const std::string& value) {
    MiniJson json;
    json.*part = value;
    return json;
  };
  constexpr auto kCorruption = ErrorCode::kCorruption;
  const auto refused = [&](std::string MiniJson::*part, const std::string& value,
                           const std::string& words) {
    ExpectRefused(with(part, value), kCorruption, words);
  };
  refused(&MiniJson::extra_vocab, R"(,"new":256)", "twice");
  refused(&MiniJson::extra_vocab, R"(,"he":300)", "twice");
  refused(&MiniJson::extra_vocab, R"(,"<｜x｜>":300,"<｜x｜>":301)", "twice");
  refused(&MiniJson::extra_vocab, R"(,"new":-1)", "out of range");
  refused(&MiniJson::extra_vocab, R"(,"new":1048576)", "out of range");
  refused(&MiniJson::extra_vocab, R"(,"new":9000000000000000000)", "out of range");
  refused(&MiniJson::extra_vocab, R"(,"new":18446744073709551615)", "not an integer");
  refused(&MiniJson::extra_vocab, R"(,"new":1.5)", "not an integer");
  refused(&MiniJson::extra_vocab, R"(,"new":"5")", "not an integer");
  refused(&MiniJson::extra_vocab, R"(,"":300)", "empty");
  refused(&MiniJson::merges, R"(["h e","h e"])", "twice");
  refused(&MiniJson::merges, R"(["x y"])", "not in the vocabulary");
  refused(&MiniJson::merges, R"(["nope e"])", "not in the vocabulary");
  refused(&MiniJson::merges, R"(["he"])", "a space between");
  refused(&MiniJson::merges, R"(["h e l"])", "a space between");
  refused(&MiniJson::merges, R"([["h","e","l"]])", "3 parts");
  refused(&MiniJson::merges, R"([["h",5]])", "not a string");
  refused(&MiniJson::merges, R"([5])", "not a string");
  refused(&MiniJson::merges, R"({})", "merges is not an array");
  refused(&MiniJson::added_tokens, R"([{"id":256,"content":"<s>"}])", "id 256 of another token");
  refused(&MiniJson::added_tokens, R"([{"id":300,"content":"he"}])", "the vocabulary gives it 256");
  refused(&MiniJson::added_tokens, R"([{"id":300,"content":"<s>"},{"id":301,"content":"<s>"}])",
          "twice");
  refused(&MiniJson::added_tokens, R"([{"id":300,"content":"<s>"},{"id":300,"content":"<t>"}])",
          "twice");
  refused(&MiniJson::added_tokens, R"([{"id":300,"content":""}])", "empty name");
  refused(&MiniJson::added_tokens, R"([{"id":99999999,"content":"<s>"}])", "out of range");
  refused(&MiniJson::added_tokens, R"([{"content":"<s>"}])", "\"id\" is missing");
  refused(&MiniJson::added_tokens, R"([{"id":300}])", "\"content\" is missing");
  refused(&MiniJson::added_tokens, R"([{"id":300,"content":"<s>","special":1}])", "special");
  refused(&MiniJson::added_tokens, R"([7])", "not an object");
  refused(&MiniJson::pre_tokenizer, "null", "pre_tokenizer is not an object");
  refused(&MiniJson::decoder, "null", "decoder is not an object");
  MiniJson json;
  json.last_byte = 0xFF;
  ExpectRefused(json, kCorruption, "\"ü\" has id 262, but the vocabulary gives it 252");
  json.last_byte = 0xF3;
  ExpectRefused(json, kCorruption, "no token for the byte 0xF4");
  json = {};
  json.added_tokens = fmt::format(R"([{{"id":300,"content":"{}"}}])", std::string(513, 'x'));
  ExpectRefused(json, ErrorCode::kUnimplemented, "513 bytes");

  const std::string good = MiniJson().Text();
  const auto text_refused = [](const std::string& text, const std::string& words) {
    ExpectRefused([&text] { Tokenizer::FromJson(text, "mini.json"); }, kCorruption, words);
  };
  text_refused("", "not valid JSON");
  text_refused("[]", "object");
  text_refused("{}", "missing");
  text_refused(R"({"decoder":{"type":"ByteLevel"},"pre_tokenizer":)" + json.pre_tokenizer + "}",
               "\"model\" is missing");
  text_refused(std::string(100000, '['), "not valid JSON");
  text_refused(good + "x", "not valid JSON");
  for (size_t size = 0; size < good.size(); size += 97) {
    text_refused(good.substr(0, size), "not valid JSON");
  }
}

// Kimi's format: the bytes in base64, then "he" and "hel".
std::string MiniRanks(const std::string& more = "aGU= 256\naGVs 257\n") {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string file;
  for (int byte = 0; byte < 256; ++byte) {
    file += fmt::format("{}{}== {}\n", kDigits[byte >> 2], kDigits[(byte & 3) << 4], byte);
  }
  return file + more;
}

constexpr char kMiniConfig[] =
    R"({"added_tokens_decoder":{"258":{"content":"[BOS]","special":true},)"
    R"("260":{"content":"<think>","special":false}}})";

TEST(TokenizerTiktokenTest, EncodesAndNamesSpecialTokens) {
  const auto tokenizer = Tokenizer::FromTiktoken(MiniRanks(), kMiniConfig, "mini.model");
  EXPECT_EQ(tokenizer->vocab_size(), 258 + 256);
  EXPECT_EQ(tokenizer->Encode("hel[BOS]he<think>", true),
            (std::vector<int32_t>{257, 258, 256, 260}));
  EXPECT_EQ(tokenizer->TokenId("<|reserved_token_259|>"), 259);
  EXPECT_EQ(tokenizer->TokenId("<|reserved_token_258|>"), std::nullopt);
  EXPECT_TRUE(tokenizer->IsSpecial(258));
  EXPECT_FALSE(tokenizer->IsSpecial(260));
  EXPECT_TRUE(tokenizer->IsSpecial(513));
}

TEST(TokenizerTiktokenTest, RefusesDamage) {
  const auto refused = [](const std::string& ranks, const std::string& config,
                          const std::string& words) {
    ExpectRefused([&] { Tokenizer::FromTiktoken(ranks, config, "mini.model"); },
                  ErrorCode::kCorruption, words);
  };
  refused("", "{}", "no token for the byte 0x00");
  for (const char* line :
       {"aGU=256", "aGU= ", "aGU= x", "aGU= 256 ", "aGU 256", "aGV= 256", "aG=U 256", "a*U= 256",
        " 256", "==== 256", "aGU= 99999999999999999999", "aGU= +256", "aGU= 256\r"}) {
    refused(MiniRanks(std::string(line) + "\n"), "{}", "line 257 is not a token");
  }
  refused(MiniRanks("aGU= 256\naGU= 257\n"), "{}", "twice");
  refused(MiniRanks("aGU= 256\naGVs 256\n"), "{}", "twice");
  refused(MiniRanks("aGU= 257\n"), "{}", "the highest rank is 257");
  refused(MiniRanks("aGU= -1\n"), "{}", "out of range");
  refused(MiniRanks("aGU= 5000000000\n"), "{}", "out of range");
  refused(MiniRanks(), "", "not valid JSON");
  refused(MiniRanks(), R"({"added_tokens_decoder":[]})", "not an object");
  refused(MiniRanks(), R"({"added_tokens_decoder":{"x":{"content":"a"}}})", "the id \"x\"");
  refused(MiniRanks(), R"({"added_tokens_decoder":{"514":{"content":"a"}}})", "the id \"514\"");
  refused(MiniRanks(), R"({"added_tokens_decoder":{"258":{"content":"a"},"259":{"content":"a"}}})",
          "twice");
  refused(MiniRanks(), R"({"added_tokens_decoder":{"258":{}}})", "\"content\" is missing");
  refused(std::string(Tokenizer::kMaxFileBytes + 1, '\n'), "{}", "more than");
}

struct MiniParts {
  MiniParts() {
    for (int byte = 0; byte < 256; ++byte) spellings.push_back(Spelling(byte));
    for (const char* token : {"he", "hel", "lo", "hello", "<s>", "<u>", "[PAD262]"}) {
      spellings.emplace_back(token);
    }
    parts.tokens.assign(spellings.begin(), spellings.end());
    parts.token_types.assign(260, TokenizerParts::kNormal);
    parts.token_types.insert(
        parts.token_types.end(),
        {TokenizerParts::kControl, TokenizerParts::kUserDefined, TokenizerParts::kUnused});
    parts.merges = {"h e", "he l", "l o", "hel lo"};
    parts.pre_tokenizer = "deepseek-v3";
  }

  std::vector<std::string> spellings;
  TokenizerParts parts;
};

TEST(TokenizerPartsTest, EncodesByTypeOfToken) {
  MiniParts mini;
  for (const char* name : {"deepseek-v3", "deepseek-llm", "kimi-k2"}) {
    mini.parts.pre_tokenizer = name;
    const auto tokenizer = Tokenizer::FromParts(mini.parts, "mini.gguf");
    EXPECT_EQ(tokenizer->Encode("hello<s><u>", true), (std::vector<int32_t>{259, 260, 261}));
    EXPECT_TRUE(tokenizer->IsSpecial(260));
    EXPECT_FALSE(tokenizer->IsSpecial(261));
    EXPECT_EQ(tokenizer->TokenId("[PAD262]"), std::nullopt);
    EXPECT_EQ(tokenizer->TokenBytes(262), "");
  }
}

TEST(TokenizerPartsTest, Refuses) {
  const auto refused = [](ErrorCode code, const std::string& words,
                          const std::function<void(TokenizerParts*)>& change) {
    MiniParts mini;
    change(&mini.parts);
    ExpectRefused([&mini] { Tokenizer::FromParts(mini.parts, "mini.gguf"); }, code, words);
  };
  refused(ErrorCode::kUnimplemented, "\"llama-bpe\"",
          [](TokenizerParts* parts) { parts->pre_tokenizer = "llama-bpe"; });
  refused(ErrorCode::kCorruption, "263 tokens but 262 token types",
          [](TokenizerParts* parts) { parts->token_types.pop_back(); });
  refused(ErrorCode::kUnimplemented, "type 6",
          [](TokenizerParts* parts) { parts->token_types[3] = 6; });
  refused(ErrorCode::kCorruption, "twice",
          [](TokenizerParts* parts) { parts->tokens[257] = "he"; });
  refused(ErrorCode::kCorruption, "not in the vocabulary",
          [](TokenizerParts* parts) { parts->merges[0] = "a b"; });
  refused(ErrorCode::kUnimplemented, "byte-level",
          [](TokenizerParts* parts) { parts->merges[0] = "｜ b"; });
}

}  // namespace
}  // namespace baleen
