// Templates of a model, as CChat's functions share them.
#ifndef LADDER_TEMPLATES_H
#define LADDER_TEMPLATES_H

#include "CChat.h"

#include <llama-common/chat.h>

#include <cstdlib>
#include <cstring>
#include <string>

struct ladder_chat {
  common_chat_templates_ptr templates;
  // That for tools, where its dates are written out: what `templates` was made from then has the other alone.
  common_chat_templates_ptr tool_templates;
  // As the model has them: the second is empty where there is none for tools.
  std::string sources[2];
  // Whether llama.cpp changes the messages for this template before it renders them; the second for the one for tools.
  bool specialised[2] = {false, false};

  const common_chat_templates *of(bool tools) const { return tools && tool_templates ? tool_templates.get() : templates.get(); }
};

// A request's messages, tools and options.
common_chat_templates_inputs ladder_chat_inputs(const common_json &request);

inline char *ladder_copied(const std::string &text) {
  char *result = static_cast<char *>(std::malloc(text.size() + 1));
  if (result) {
    std::memcpy(result, text.data(), text.size());
    result[text.size()] = 0;
  }
  return result;
}

#endif
