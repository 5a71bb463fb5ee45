#include "CChat.h"

#include <llama.h>

#include <exception>

bool ladder_sampler_accept(llama_sampler *sampler, int32_t token) {
  try {
    llama_sampler_accept(sampler, token);
    return true;
  } catch (const std::exception &) {
    return false;
  }
}
