#include "templates.h"

#include <llama-common/chat-auto-parser.h>
#include <llama-common/log.h>

#include <ctime>
#include <mutex>

namespace {

bool is_specialised(const std::string &source) {
  try {
    common_chat_template own(source, "", "");
    autoparser::generation_params parameters;
    parameters.messages = common_json::parse("[{\"role\":\"user\",\"content\":\"a\"}]");
    return common_chat_try_specialized_template(own, source, parameters).has_value();
  } catch (const std::exception &) {
    // A template for which llama.cpp has code of its own, and which refuses this conversation.
    return true;
  }
}

bool ends_with_answer(const std::vector<common_chat_msg> &messages) {
  return !messages.empty() && messages.back().role == "assistant" && messages.back().tool_calls.empty();
}

// GPT-OSS ends its answer with <|return|>, as its template writes the last one; for inference llama.cpp puts <|end|>
// there, with which earlier answers end.
void restore_return(std::string &text, const std::string &source) {
  const std::string end = "<|end|>";
  if (source.find("<|channel|>") == std::string::npos || source.find("<|return|>") == std::string::npos) return;
  if (text.size() < end.size() || text.compare(text.size() - end.size(), end.size(), end) != 0) return;
  text.replace(text.size() - end.size(), end.size(), "<|return|>");
}

// The source with the dates of that moment in place of strftime_now('…'), for which llama.cpp takes the clock.
std::string dated(const std::string &source, std::time_t now) {
  const std::string call = "strftime_now(";
  std::string result;
  size_t place = 0;
  for (size_t at; (at = source.find(call, place)) != std::string::npos;) {
    const size_t open = source.find_first_not_of(" \t\n", at + call.size());
    const char quote = open == std::string::npos ? 0 : source[open];
    const size_t close = quote == '\'' || quote == '"' ? source.find(quote, open + 1) : std::string::npos;
    const size_t end = close == std::string::npos ? close : source.find_first_not_of(" \t\n", close + 1);
    char text[256];
    if (end != std::string::npos && source[end] == ')' &&
        std::strftime(text, sizeof(text), source.substr(open + 1, close - open - 1).c_str(), std::localtime(&now))) {
      result += source.substr(place, at - place) + "(" + quote + text + quote + ")";
      place = end + 1;
    } else {
      result += source.substr(place, at + call.size() - place);
      place = at + call.size();
    }
  }
  return result + source.substr(place);
}

// llama.cpp's own notes on templates go to standard error; errors are returned.
void silence() {
  static std::once_flag once;
  std::call_once(once, [] { common_log_set_verbosity_thold(-1); });
}

}  // namespace

ladder_chat *ladder_chat_open(const llama_model *model, const char *source, int64_t now, char **error) {
  silence();
  try {
    const char *written = source ? source : model ? llama_model_chat_template(model, nullptr) : nullptr;
    // Throws what is wrong with it, which the line below leaves out.
    if (written) common_chat_template(written, "", "");
    auto chat = std::make_unique<ladder_chat>();
    chat->templates = common_chat_templates_init(model, source ? source : "");
    if (!common_chat_templates_was_explicit(chat->templates.get())) {
      *error = ladder_copied("");
      return nullptr;
    }
    chat->sources[0] = common_chat_templates_source(chat->templates.get());
    chat->sources[1] = common_chat_templates_source(chat->templates.get(), "tool_use");
    const std::string &tools = chat->sources[1];
    chat->specialised[0] = is_specialised(chat->sources[0]);
    chat->specialised[1] = tools.empty() ? chat->specialised[0] : is_specialised(tools);
    if (now >= 0) {
      const auto at = static_cast<std::time_t>(now);
      const std::string written_out[2] = {dated(chat->sources[0], at), dated(tools, at)};
      if (written_out[0] != chat->sources[0] || written_out[1] != tools) {
        chat->templates = common_chat_templates_init(model, written_out[0]);
        if (!tools.empty()) chat->tool_templates = common_chat_templates_init(model, written_out[1]);
      }
    }
    return chat.release();
  } catch (const std::exception &failure) {
    *error = ladder_copied(failure.what());
    return nullptr;
  }
}

void ladder_chat_close(ladder_chat *chat) { delete chat; }

const char *ladder_chat_source(const ladder_chat *chat, bool tools) {
  return tools && chat->sources[1].empty() ? nullptr : chat->sources[tools ? 1 : 0].c_str();
}

common_chat_templates_inputs ladder_chat_inputs(const common_json &request) {
  common_chat_templates_inputs inputs;
  inputs.messages = common_chat_msgs_parse_oaicompat(request.at("messages"));
  if (request.contains("tools")) inputs.tools = common_chat_tools_parse_oaicompat(request.at("tools"));
  if (request.contains("options")) {
    for (const auto &[name, value] : request.at("options").items()) inputs.chat_template_kwargs[name] = value.dump();
  }
  const auto thinking = inputs.chat_template_kwargs.find("enable_thinking");
  if (thinking != inputs.chat_template_kwargs.end()) inputs.enable_thinking = thinking->second != "false";
  return inputs;
}

char *ladder_chat_render(const ladder_chat *chat, const char *request, size_t *length, char **error) {
  try {
    const common_json json = common_json::parse(request);
    common_chat_templates_inputs inputs = ladder_chat_inputs(json);
    inputs.add_generation_prompt = json.at("open").get<bool>();
    // The parser of answers, which llama.cpp would make from each template anew, is not needed to render.
    inputs.force_pure_content = !chat->specialised[inputs.tools.empty() ? 0 : 1];
    std::string text = common_chat_templates_apply(chat->of(!inputs.tools.empty()), inputs).prompt;
    if (!inputs.add_generation_prompt && chat->specialised[0] && ends_with_answer(inputs.messages)) {
      restore_return(text, chat->sources[0]);
    }
    *length = text.size();
    return ladder_copied(text);
  } catch (const std::exception &failure) {
    *error = ladder_copied(failure.what());
    return nullptr;
  }
}

void ladder_chat_free_text(char *text) { std::free(text); }
