// Conversations as llama.cpp's server renders them: its common library's templates behind C functions.
#ifndef LADDER_CCHAT_H
#define LADDER_CCHAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct llama_model;
typedef struct ladder_chat ladder_chat;

// The model's own template, or `source` in its place where that is not NULL; NULL and an error where there is none or
// it cannot be read. A template that writes the date writes that of `now`, in seconds since 1970, or the clock's where that
// is below 0. Free errors and texts with `ladder_chat_free_text`.
ladder_chat *ladder_chat_open(const struct llama_model *model, const char *source, int64_t now, char **error);
void ladder_chat_close(ladder_chat *chat);

// The template's text; NULL for the second one where the model has none for conversations with tools.
const char *ladder_chat_source(const ladder_chat *chat, bool tools);

// Renders a request: {"messages": […], "tools": […], "options": {…}, "open": bool}, the first two as in OpenAI's
// interface. "options" go to the template by their names; "open" ends the text where the assistant's turn begins. The
// text may hold zeros: `length` has its bytes.
char *ladder_chat_render(const ladder_chat *chat, const char *request, size_t *length, char **error);

void ladder_chat_free_text(char *text);

// How the answer of a request is written and read, beside what the request holds for rendering: "tool_choice" ("auto",
// "required", "none"), "parallel" (whether it may call several tools), "schema" (a JSON schema that it follows) and
// "choices" (how many answers are read). Belongs to one thread at a time.
typedef struct ladder_answer ladder_answer;
ladder_answer *ladder_answer_open(const ladder_chat *chat, const char *request, char **error);
void ladder_answer_close(ladder_answer *answer);

// {"grammar", "isLazy", "triggers": {"patterns", "words", "tokens"}, "preserved", "stops", "opening", "isPlain"}: a lazy
// grammar holds from a trigger on; preserved control tokens are text of the answer; "opening" is what the prompt ends
// with that belongs to the answer; a plain answer is nothing but its text.
const char *ladder_answer_rules(const ladder_answer *answer);

// What an answer says so far, all of its text given: {"deltas": [{"content", "reasoning", "call", "index"}], "content",
// "reasoning", "calls": [{"id", "name", "arguments"}]}, the deltas since the last call for this choice.
char *ladder_answer_read(
    ladder_answer *answer, size_t choice, const char *text, size_t length, bool partial, char **error);

// A JSON schema as a GBNF grammar.
char *ladder_schema_grammar(const char *schema, char **error);

// llama_sampler_accept; false where the sampler, a grammar's, throws.
struct llama_sampler;
bool ladder_sampler_accept(struct llama_sampler *sampler, int32_t token);

// Lines from a terminal, with llama.cpp's own editing and history; a line that ends with a backslash goes on. NULL at the
// end of the input. What is open has to be closed before the process ends.
void ladder_line_open(void);
char *ladder_line_read(void);
void ladder_line_close(void);

#ifdef __cplusplus
}
#endif

#endif
