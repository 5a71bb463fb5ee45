// A model's weights in F32: f32 IN OUT. For test-accelerator and gpu-check.
#include "llama.h"
int main(int count, char ** words) {
  struct llama_model_quantize_params options = llama_model_quantize_default_params();
  options.ftype = LLAMA_FTYPE_ALL_F32;
  options.allow_requantize = true;
  return count == 3 ? (int) llama_model_quantize(words[1], words[2], &options) : 64;
}
