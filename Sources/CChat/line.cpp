#include "CChat.h"

#include <llama-common/console.h>

#include <cstdlib>
#include <cstring>
#include <string>

void ladder_line_open(void) { console::init(false, false); }

char *ladder_line_read(void) {
  std::string text, line;
  bool more = true;
  while (more) {
    more = console::readline(line, false);
    // Nothing at all is the end of the input.
    if (line.empty() && text.empty()) return nullptr;
    text += line;
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  char *result = static_cast<char *>(std::malloc(text.size() + 1));
  if (result) std::memcpy(result, text.c_str(), text.size() + 1);
  return result;
}

void ladder_line_close(void) { console::cleanup(); }
