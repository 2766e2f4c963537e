#include "server/answer_form.h"

#include <optional>

#include "server/api_error.h"

namespace baleen {

namespace {

struct Format {
  std::optional<GrammarSpec> spec;  // unset: any text
  std::string param;
};

Format ReadResponseFormat(const Fields& fields) {
  const auto format = fields.Object("response_format");
  if (!format) return {};
  const std::string type = format->String("type").value_or("");
  if (type == "text") return {};
  if (type == "json_object") return {GrammarSpec::JsonObject(), fields.PathOf("response_format")};
  if (type != "json_schema") format->Refuse("type", "text, json_object or json_schema");
  const auto json_schema = format->Object("json_schema");
  if (!json_schema) format->Refuse("json_schema", "an object with a schema");
  json_schema->String("name");
  json_schema->String("description");
  const bool strict = json_schema->Bool("strict").value_or(false);
  const auto schema = json_schema->Object("schema");
  const std::string param = json_schema->PathOf("schema");
  if (!schema) return {GrammarSpec::JsonObject(), param};
  return {GrammarSpec::JsonSchema(simdjson::minify(schema->object()), strict), param};
}

// What may stand before an answer: reasoning, as far as this model does.
GrammarSpec AfterReasoning(const EncodedChat& chat, GrammarSpec answer) {
  if (!chat.may_reason) return answer;
  std::vector<GrammarSpec> reasoning = {GrammarSpec::TextUntil("</think>")};
  if (chat.starts_in_reasoning) {
    return GrammarSpec::Sequence({std::move(reasoning[0]), std::move(answer)});
  }
  reasoning.insert(reasoning.begin(),
                   {GrammarSpec::Pattern("[ \\n]{0,2}"), GrammarSpec::Control("<think>")});
  return GrammarSpec::Sequence(
      {GrammarSpec::Repeat(GrammarSpec::Sequence(std::move(reasoning)), 0, 1), std::move(answer)});
}

std::shared_ptr<const Grammar> Compile(const Engine& engine, const GrammarSpec& spec,
                                       const std::string& param) {
  try {
    return engine.CompileGrammar(spec);
  } catch (const Error& error) {
    const bool is_theirs =
        error.code() == ErrorCode::kInvalidArgument || error.code() == ErrorCode::kUnimplemented;
    if (!is_theirs) throw;
    throw ApiError(400, error.what(), param);
  }
}

}  // namespace

AnswerForm ReadAnswerForm(const Engine& engine, const Fields& fields, const EncodedChat& chat) {
  const Format format = ReadResponseFormat(fields);
  const ToolRequest tools = ReadTools(fields);
  AnswerForm form;
  if (!format.spec && tools.tools.empty()) return form;
  std::optional<GrammarSpec> content;
  if (format.spec) {
    content = GrammarSpec::Sequence({GrammarSpec::Pattern("[ \\n]{0,2}"), *format.spec});
    form.grammar = Compile(engine, AfterReasoning(chat, *content), format.param);
  }
  if (tools.tools.empty()) return form;
  form.tool_call_format = engine.info().tool_call_format;
  form.has_tools = tools.choice != ToolRequest::Choice::kNone;
  form.is_named = tools.choice == ToolRequest::Choice::kNamed;
  const GrammarSpec answer =
      AnswerWithCalls(form.tool_call_format, tools, content ? &*content : nullptr);
  form.grammar = Compile(engine, AfterReasoning(chat, answer), fields.PathOf("tools"));
  return form;
}

}  // namespace baleen
