#include "server/score.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "server/answer_plan.h"
#include "server/api_error.h"
#include "server/json.h"
#include "server/openai_json.h"

namespace baleen {

using simdjson::dom::array;
using simdjson::dom::element;

namespace {

using Ids = std::vector<int32_t>;

constexpr size_t kMaxItems = 1024;
constexpr size_t kMaxLabels = 1024;
constexpr size_t kMaxPasses = 4096;  // of one request
constexpr double kLeastScore = -9999;

// A text or a list of ids, as ids; `text` is what it says.
struct Encoded {
  Ids ids;
  size_t num_bytes = 0;
};

Encoded ReadText(const Engine& engine, const Fields& fields, std::string_view name, element value,
                 bool add_bos) {
  std::string_view text;
  array list;
  Encoded encoded;
  if (!value.get_string().get(text)) {
    encoded.ids = engine.Encode(text, {.parse_special = true, .add_bos = add_bos});
    encoded.num_bytes = text.size();
  } else if (!value.get_array().get(list)) {
    encoded.ids = IdsOf(list, fields.PathOf(name));
    for (const int32_t id : encoded.ids) {
      if (static_cast<size_t>(id) < engine.info().vocab_size) continue;
      throw ApiError(
          400,
          fmt::format("token id {} is outside the vocabulary of {}", id, engine.info().vocab_size),
          fields.PathOf(name));
    }
    encoded.num_bytes = engine.Decode(encoded.ids, false).size();
  } else {
    fields.Refuse(name, "made of strings or lists of token ids");
  }
  return encoded;
}

std::vector<ScorePlan::Label> ReadLabels(const Engine& engine, const Fields& fields) {
  std::vector<ScorePlan::Label> labels;
  const bool by_ids = fields.Any("label_token_ids").has_value();
  if (by_ids == fields.Any("labels").has_value()) {
    fields.Refuse("labels", "given, or label_token_ids, and not both");
  }
  const char* const name = by_ids ? "label_token_ids" : "labels";
  if (by_ids) {
    for (const int32_t id : fields.Ids(name)) labels.push_back({.token_ids = {id}});
    for (ScorePlan::Label& label : labels) {
      if (static_cast<size_t>(label.token_ids[0]) >= engine.info().vocab_size) {
        fields.Refuse(name, fmt::format("ids below {}", engine.info().vocab_size));
      }
      label.num_bytes = engine.Decode(label.token_ids, false).size();
    }
  } else {
    const auto list = fields.Array(name);
    for (const element item : *list) {
      Encoded encoded = ReadText(engine, fields, name, item, false);
      labels.push_back({.token_ids = std::move(encoded.ids), .num_bytes = encoded.num_bytes});
    }
  }
  if (labels.empty() || labels.size() > kMaxLabels) {
    fields.Refuse(name, fmt::format("a list of 1 to {}", kMaxLabels));
  }
  for (const ScorePlan::Label& label : labels) {
    if (label.token_ids.empty()) fields.Refuse(name, "made of labels that are not empty");
  }
  return labels;
}

LengthNormalize ReadNormalize(const Fields& fields) {
  const std::string name = fields.String("length_normalize").value_or("none");
  if (name == "none") return LengthNormalize::kNone;
  if (name == "tokens") return LengthNormalize::kTokens;
  if (name == "bytes") return LengthNormalize::kBytes;
  fields.Refuse("length_normalize", "none, tokens or bytes");
}

class Scoring : public Reply {
 public:
  Scoring(Engine& engine, ScorePlan plan, std::string id, std::string model,
          std::shared_ptr<Exchange> exchange, AnswerHooks hooks)
      : Reply(engine, std::move(id), std::move(model), std::move(exchange), std::move(hooks)),
        plan_(std::move(plan)) {}

  void Start();

 private:
  Pass PromptPass(size_t item);
  void SubmitLabels(size_t item);
  // A pass whose end matters unless it was cancelled or failed.
  Pass MakePass(Request request, std::function<void(const Completion&)> on_end);
  void SendEnd() override;

  const ScorePlan plan_;
  std::vector<std::vector<double>> logprobs_;  // [item][label]
};

void Scoring::Start() {
  logprobs_.assign(plan_.prompts.size(), std::vector<double>(plan_.labels.size()));
  report_.num_choices = plan_.prompts.size();
  std::vector<Pass> passes;
  for (size_t i = 0; i < plan_.prompts.size(); ++i) passes.push_back(PromptPass(i));
  SubmitAll(std::move(passes));
}

Reply::Pass Scoring::MakePass(Request request, std::function<void(const Completion&)> on_end) {
  return {.request = std::move(request),
          .on_chunk = {},
          .on_end = [this, on_end = std::move(on_end)](const Completion& completion) {
            report_.first_token_seconds = SecondsSinceBegin();
            if (completion.finish_reason == FinishReason::kCancelled) {
              report_.finish_reason = "abort";
            } else if (!has_failed() && !is_gone()) {
              on_end(completion);
            }
          }};
}

// The text, and from its last row the first tokens of all labels.
Reply::Pass Scoring::PromptPass(size_t item) {
  Request request = plan_.request;
  request.prompt_token_ids = plan_.prompts[item];
  request.max_tokens = 1;
  request.num_logprobs = 0;
  for (const auto& label : plan_.labels) request.logprob_token_ids.push_back(label.token_ids[0]);
  report_.usage.prompt_tokens += request.prompt_token_ids.size();
  return MakePass(std::move(request), [this, item](const Completion& completion) {
    report_.usage.cached_tokens += completion.cached_tokens;
    const std::vector<TokenLogprob>& top = completion.tokens.at(0).top;
    for (size_t i = 0; i < plan_.labels.size(); ++i) logprobs_[item][i] = top.at(i).logprob;
    SubmitLabels(item);
  });
}

void Scoring::SubmitLabels(size_t item) {
  const Ids& prompt = plan_.prompts[item];
  for (size_t i = 0; i < plan_.labels.size(); ++i) {
    const Ids& label = plan_.labels[i].token_ids;
    if (label.size() == 1) continue;
    Request request = plan_.request;
    request.prompt_token_ids = prompt;
    request.prompt_token_ids.insert(request.prompt_token_ids.end(), label.begin(), label.end());
    request.max_tokens = 0;
    request.num_prompt_logprobs = 0;
    request.prompt_logprobs_from = prompt.size() + 1;
    // The last token is only looked up; the others are fed.
    report_.usage.prompt_tokens += label.size() - 1;
    Submit(MakePass(std::move(request), [this, item, i](const Completion& completion) {
      for (const GeneratedToken& token : completion.prompt) logprobs_[item][i] += token.logprob;
    }));
  }
}

void Scoring::SendEnd() {
  Json data = Json::array();
  for (size_t item = 0; item < plan_.prompts.size(); ++item) {
    const std::vector<double> scores = LabelScores(plan_, logprobs_[item]);
    Json sums = Json::array(), counts = Json::array();
    for (size_t i = 0; i < plan_.labels.size(); ++i) {
      sums.push_back(std::max(logprobs_[item][i], kLeastScore));
      counts.push_back(plan_.labels[i].token_ids.size());
    }
    data.push_back({{"index", item},
                    {"object", "score"},
                    {"score", scores[0]},
                    {"label_scores", scores},
                    {"label_logprobs", std::move(sums)},
                    {"label_tokens", std::move(counts)}});
  }
  HttpResponse response;
  response.headers.push_back({"X-Request-Id", report_.id});
  response.body = ToText({{"id", report_.id},
                          {"object", "list"},
                          {"created", UnixSeconds()},
                          {"model", model_},
                          {"data", std::move(data)},
                          {"usage", UsageJson(report_.usage)}});
  exchange_->Respond(std::move(response));
}

}  // namespace

std::vector<double> LabelScores(const ScorePlan& plan, const std::vector<double>& logprobs) {
  std::vector<double> scores = logprobs;
  for (size_t i = 0; i < scores.size(); ++i) {
    const ScorePlan::Label& label = plan.labels[i];
    if (plan.normalize == LengthNormalize::kTokens) {
      scores[i] /= static_cast<double>(label.token_ids.size());
    } else if (plan.normalize == LengthNormalize::kBytes) {
      scores[i] /= static_cast<double>(std::max<size_t>(1, label.num_bytes));
    }
  }
  double log_sum = 0;
  if (plan.apply_softmax) {
    const double most = *std::ranges::max_element(scores);
    double sum = 0;
    for (const double score : scores) sum += std::exp(score - most);
    log_sum = most + std::log(sum);
  }
  for (double& score : scores) score = std::exp(score - log_sum);
  return scores;
}

ScorePlan PlanScore(const Engine& engine, const Fields& fields) {
  ScorePlan plan;
  AnswerPlan common;
  ReadCommon(fields, engine.info(), common);
  plan.request.priority = common.request.priority;
  plan.request.cache_salt = common.request.cache_salt;
  plan.request.ignore_eos = true;
  plan.apply_softmax = fields.Bool("apply_softmax").value_or(true);
  plan.normalize = ReadNormalize(fields);
  plan.labels = ReadLabels(engine, fields);
  const bool add_bos = fields.Bool("add_special_tokens").value_or(true);
  const bool item_first = fields.Bool("item_first").value_or(false);
  const auto query = fields.Any("query");
  if (!query) fields.Refuse("query", "a string or a list of token ids");
  const Ids query_ids = ReadText(engine, fields, "query", *query, add_bos).ids;

  std::vector<Ids> items;
  if (const auto list = fields.Array("items")) {
    if (list->size() == 0 || list->size() > kMaxItems) {
      fields.Refuse("items", fmt::format("a list of 1 to {}", kMaxItems));
    }
    for (const element item : *list) {
      items.push_back(ReadText(engine, fields, "items", item, false).ids);
    }
  } else {
    items.emplace_back();
  }
  size_t longest = 0, passes = 1;
  for (const auto& label : plan.labels) {
    longest = std::max(longest, label.token_ids.size());
    passes += label.token_ids.size() > 1;
  }
  if (passes * items.size() > kMaxPasses) {
    fields.Refuse("items", fmt::format("at most {} with so many labels", kMaxPasses / passes));
  }
  for (const Ids& item : items) {
    Ids ids = item_first ? item : query_ids;
    const Ids& rest = item_first ? query_ids : item;
    ids.insert(ids.end(), rest.begin(), rest.end());
    if (ids.empty()) fields.Refuse("query", "a text: there are no tokens");
    if (ids.size() + longest > engine.info().max_context_tokens) {
      throw ApiError(
          400,
          fmt::format("a text has {} tokens and a label {}, but the context of {} holds "
                      "{} together",
                      ids.size(), longest, engine.info().name, engine.info().max_context_tokens),
          fields.PathOf("query"), "context_length_exceeded");
    }
    plan.prompts.push_back(std::move(ids));
  }
  return plan;
}

void StartScore(Engine& engine, ScorePlan plan, std::string id, std::string model,
                std::shared_ptr<Exchange> exchange, AnswerHooks hooks) {
  const auto scoring = std::make_shared<Scoring>(engine, std::move(plan), std::move(id),
                                                 std::move(model), exchange, std::move(hooks));
  // On the thread where its passes end, so that none ends before all have begun.
  exchange->Post([scoring, exchange] {
    try {
      scoring->Start();
    } catch (const std::exception& error) {
      exchange->Respond(ErrorResponse(ToApiError(error)));
    }
  });
}

}  // namespace baleen
