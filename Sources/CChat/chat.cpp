#include "CChat.h"

#include <llama-common/chat-auto-parser.h>
#include <llama-common/chat.h>
#include <llama-common/log.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <mutex>

struct ladder_chat {
  common_chat_templates_ptr templates;
  // Whether llama.cpp changes the messages for this template before it renders them; the second for the one for tools.
  bool specialised[2] = {false, false};
  bool has_tool_template = false;
};

namespace {

char *copied(const std::string &text) {
  char *result = static_cast<char *>(std::malloc(text.size() + 1));
  if (result) {
    std::memcpy(result, text.data(), text.size());
    result[text.size()] = 0;
  }
  return result;
}

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

// llama.cpp's own notes on templates go to standard error; errors are returned.
void silence() {
  static std::once_flag once;
  std::call_once(once, [] { common_log_set_verbosity_thold(-1); });
}

}  // namespace

ladder_chat *ladder_chat_open(const llama_model *model, const char *source, char **error) {
  silence();
  try {
    const char *written = source ? source : model ? llama_model_chat_template(model, nullptr) : nullptr;
    // Throws what is wrong with it, which the line below leaves out.
    if (written) common_chat_template(written, "", "");
    auto chat = std::make_unique<ladder_chat>();
    chat->templates = common_chat_templates_init(model, source ? source : "");
    if (!common_chat_templates_was_explicit(chat->templates.get())) {
      *error = copied("");
      return nullptr;
    }
    const std::string tools = common_chat_templates_source(chat->templates.get(), "tool_use");
    chat->specialised[0] = is_specialised(common_chat_templates_source(chat->templates.get()));
    chat->has_tool_template = !tools.empty();
    chat->specialised[1] = chat->has_tool_template ? is_specialised(tools) : chat->specialised[0];
    return chat.release();
  } catch (const std::exception &failure) {
    *error = copied(failure.what());
    return nullptr;
  }
}

void ladder_chat_close(ladder_chat *chat) { delete chat; }

const char *ladder_chat_source(const ladder_chat *chat, bool tools) {
  if (tools && !chat->has_tool_template) return nullptr;
  static thread_local std::string text;
  text = common_chat_templates_source(chat->templates.get(), tools ? "tool_use" : "");
  return text.c_str();
}

char *ladder_chat_render(
    const ladder_chat *chat, const char *request, int64_t now, size_t *length, char **error) {
  try {
    const common_json json = common_json::parse(request);
    common_chat_templates_inputs inputs;
    if (now >= 0) inputs.now = std::chrono::system_clock::from_time_t(static_cast<std::time_t>(now));
    inputs.messages = common_chat_msgs_parse_oaicompat(json.at("messages"));
    if (json.contains("tools")) inputs.tools = common_chat_tools_parse_oaicompat(json.at("tools"));
    if (json.contains("options")) {
      for (const auto &[name, value] : json.at("options").items()) inputs.chat_template_kwargs[name] = value.dump();
    }
    const auto thinking = inputs.chat_template_kwargs.find("enable_thinking");
    if (thinking != inputs.chat_template_kwargs.end()) inputs.enable_thinking = thinking->second != "false";
    inputs.add_generation_prompt = json.at("open").get<bool>();
    // The parser of answers, which llama.cpp would make from each template anew, is not needed to render.
    inputs.force_pure_content = !chat->specialised[inputs.tools.empty() ? 0 : 1];
    std::string text = common_chat_templates_apply(chat->templates.get(), inputs).prompt;
    if (!inputs.add_generation_prompt && chat->specialised[0] && ends_with_answer(inputs.messages)) {
      restore_return(text, common_chat_templates_source(chat->templates.get()));
    }
    *length = text.size();
    return copied(text);
  } catch (const std::exception &failure) {
    *error = copied(failure.what());
    return nullptr;
  }
}

void ladder_chat_free_text(char *text) { std::free(text); }
