// Answers of a conversation: what they may be, and what they say.
#include "templates.h"

#include <llama-common/json-schema-to-grammar.h>

#include <random>

struct ladder_answer {
  common_chat_params format;
  common_chat_parser_params parser;
  std::string rules;
  struct Reading {
    common_chat_msg message;
    std::vector<std::string> call_ids;
  };
  std::vector<Reading> readings;
};

namespace {

std::string call_id() {
  static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  thread_local std::mt19937_64 random{std::random_device{}()};
  std::string id = "call_";
  for (int i = 0; i < 24; i++) id += letters[random() % (sizeof(letters) - 1)];
  return id;
}

// Words stay words: the tokenizer tells which of them are single tokens.
common_json triggers_of(const common_chat_params &format) {
  common_json patterns = common_json::array(), words = common_json::array(), tokens = common_json::array();
  for (const auto &trigger : format.grammar_triggers) {
    switch (trigger.type) {
      case COMMON_GRAMMAR_TRIGGER_TYPE_WORD: words.push_back(trigger.value); break;
      case COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN: tokens.push_back(trigger.token); break;
      case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN: patterns.push_back(trigger.value); break;
      case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN_FULL: {
        std::string whole = trigger.value;
        if (whole.empty() || whole.front() != '^') whole = "^" + whole;
        if (whole.back() != '$') whole += "$";
        patterns.push_back(whole);
        break;
      }
    }
  }
  common_json result = common_json::object();
  result["patterns"] = patterns;
  result["words"] = words;
  result["tokens"] = tokens;
  return result;
}

// Where a rule's line begins and ends.
bool find_rule(const std::string &grammar, const std::string &name, size_t &begin, size_t &end) {
  const std::string head = name + " ::= ";
  begin = grammar.compare(0, head.size(), head) == 0 ? 0 : grammar.find("\n" + head);
  if (begin == std::string::npos) return false;
  if (grammar[begin] == '\n') begin++;
  end = grammar.find('\n', begin);
  if (end == std::string::npos) end = grammar.size();
  return true;
}

// llama.cpp lets an answer that has to call a tool talk before it does: a small model then never comes to it.
std::string without_talk(std::string grammar) {
  size_t begin, end;
  if (!find_rule(grammar, "root", begin, end)) return grammar;
  const size_t talk = grammar.find(" until-", begin);
  if (talk >= end) return grammar;
  const size_t close = grammar.find_first_not_of("0123456789", talk + 7);
  if (close < end && grammar[close] == '?') grammar.erase(talk, close + 1 - talk);
  return grammar;
}

// It also lets one that may call a single tool call several.
std::string with_one_call(std::string grammar) {
  size_t begin, end;
  if (find_rule(grammar, "tool-calls", begin, end) && end - begin > 2 && grammar.compare(end - 2, 2, ")+") == 0) {
    grammar.erase(end - 1, 1);
  }
  return grammar;
}

common_json call_of(const common_chat_tool_call &call) {
  common_json result = common_json::object();
  result["id"] = call.id;
  result["name"] = call.name;
  result["arguments"] = call.arguments;
  return result;
}

}  // namespace

ladder_answer *ladder_answer_open(const ladder_chat *chat, const char *request, char **error) {
  try {
    const common_json json = common_json::parse(request);
    common_chat_templates_inputs inputs = ladder_chat_inputs(json);
    inputs.tool_choice = common_chat_tool_choice_parse_oaicompat(json.value("tool_choice", "auto"));
    inputs.parallel_tool_calls = json.value("parallel", false);
    if (json.contains("schema")) inputs.json_schema = json.at("schema").dump();
    inputs.reasoning_format = COMMON_REASONING_FORMAT_DEEPSEEK;
    auto answer = std::make_unique<ladder_answer>();
    answer->format = common_chat_templates_apply(chat->of(!inputs.tools.empty()), inputs);
    answer->parser = common_chat_parser_params(answer->format);
    answer->parser.reasoning_format = inputs.reasoning_format;
    answer->parser.parse_tool_calls = !inputs.tools.empty() && inputs.tool_choice != COMMON_CHAT_TOOL_CHOICE_NONE;
    if (!answer->format.parser.empty()) answer->parser.parser.load(answer->format.parser);
    answer->readings.resize(std::max(1, json.value("choices", 1)));
    common_json rules = common_json::object();
    const bool must_call = inputs.tool_choice == COMMON_CHAT_TOOL_CHOICE_REQUIRED;
    std::string grammar = answer->format.grammar;
    if (must_call) grammar = without_talk(grammar);
    if (!inputs.parallel_tool_calls) grammar = with_one_call(grammar);
    rules["grammar"] = grammar;
    rules["isLazy"] = answer->format.grammar_lazy;
    rules["triggers"] = triggers_of(answer->format);
    rules["preserved"] = answer->format.preserved_tokens;
    rules["stops"] = answer->format.additional_stops;
    rules["opening"] = answer->format.generation_prompt;
    rules["isPlain"] = !answer->format.supports_thinking && !chat->specialised[inputs.tools.empty() ? 0 : 1];
    answer->rules = rules.dump_safe();
    return answer.release();
  } catch (const std::exception &failure) {
    *error = ladder_copied(failure.what());
    return nullptr;
  }
}

void ladder_answer_close(ladder_answer *answer) { delete answer; }

const char *ladder_answer_rules(const ladder_answer *answer) { return answer->rules.c_str(); }

char *ladder_answer_read(
    ladder_answer *answer, size_t choice, const char *text, size_t length, bool partial, char **error) {
  try {
    auto &reading = answer->readings.at(choice);
    common_chat_msg now = common_chat_parse(std::string(text, length), partial, answer->parser);
    common_json deltas = common_json::array();
    if (!now.empty()) {
      now.set_tool_call_ids(reading.call_ids, call_id);
      for (const auto &diff : common_chat_msg_diff::compute_diffs(reading.message, now)) {
        common_json delta = common_json::object();
        delta["content"] = diff.content_delta;
        delta["reasoning"] = diff.reasoning_content_delta;
        if (diff.tool_call_index != std::string::npos) {
          delta["call"] = call_of(diff.tool_call_delta);
          delta["index"] = static_cast<int64_t>(diff.tool_call_index);
        }
        deltas.push_back(delta);
      }
      reading.message = now;
    }
    common_json calls = common_json::array();
    for (const auto &call : reading.message.tool_calls) calls.push_back(call_of(call));
    common_json result = common_json::object();
    result["deltas"] = deltas;
    result["content"] = reading.message.render_content();
    result["reasoning"] = reading.message.reasoning_content;
    result["calls"] = calls;
    return ladder_copied(result.dump_safe());
  } catch (const std::exception &failure) {
    *error = ladder_copied(failure.what());
    return nullptr;
  }
}

char *ladder_schema_grammar(const char *schema, char **error) {
  try {
    return ladder_copied(json_schema_to_grammar(common_json::parse(schema)));
  } catch (const std::exception &failure) {
    *error = ladder_copied(failure.what());
    return nullptr;
  }
}
