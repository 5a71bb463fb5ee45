#!/usr/bin/env python3
"""Compares the tokens that `ladder data` gives for conversations with those of the transformers package, for the chat
templates of well-known models (from llama.cpp's source) and a tokenizer of the same tokens.

    check-templates.py LADDER TEMPLATES    TEMPLATES: llama.cpp's models/templates

Needs transformers, jinja2 and gguf; `make check-templates` installs them into .deps/check and runs this.
"""
import json
import os
import re
import subprocess
import sys
import tempfile

import gguf
import numpy
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather at a place.",
            "parameters": {
                "type": "object",
                "properties": {"place": {"type": "string", "description": "a town"}, "days": {"type": "integer"}},
                "required": ["place"],
            },
        },
    }
]
CALL = {"id": "call12345", "type": "function", "function": {"name": "get_weather", "arguments": {"place": "Zürich", "days": 2}}}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


SYSTEM = {"role": "system", "content": "You answer in one line."}
PLAIN = [user("What is 2 + 2?"), assistant("It is 4."), user("  And\n\n3 × 3 — in words?"), assistant("Nine, neun, 九.\n")]
TOOL = [
    user("Weather in Zürich?"),
    assistant("", tool_calls=[CALL]),
    {"role": "tool", "tool_call_id": "call12345", "name": "get_weather", "content": '{"sky": "clear"}'},
    assistant("Clear for two days."),
]
THOUGHT = [user("2+2?"), assistant("4", reasoning_content="two and two"), user("3+3?"), assistant("6", reasoning_content="three and three")]

MISTRAL_1 = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% endif %}{% endfor %}"
)

# name, template, begins with, ends with, adds the beginning itself, control tokens, further tokens, conversations
FAMILIES = [
    ("ChatML (Qwen 2.5)", "Qwen-Qwen2.5-7B-Instruct.jinja", None, "<|im_end|>", False, ["<|im_start|>", "<|endoftext|>"], ["<tool_call>", "</tool_call>"], "plain system tools"),
    ("Qwen 3", "Qwen-Qwen3-0.6B.jinja", None, "<|im_end|>", False, ["<|im_start|>", "<|endoftext|>"], ["<tool_call>", "</tool_call>", "<think>", "</think>", "<tool_response>", "</tool_response>"], "plain system tools thought quiet"),
    ("Gemma 2", "google-gemma-2-2b-it.jinja", "<bos>", "<end_of_turn>", True, ["<start_of_turn>", "<eos>"], [], "plain"),
    ("Llama 3.1", "meta-llama-Llama-3.1-8B-Instruct.jinja", "<|begin_of_text|>", "<|eot_id|>", True, ["<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|python_tag|>"], [], "plain system tools"),
    ("Llama 3.2", "meta-llama-Llama-3.2-3B-Instruct.jinja", "<|begin_of_text|>", "<|eot_id|>", True, ["<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|python_tag|>"], [], "plain system tools"),
    ("Mistral v1", MISTRAL_1, "<s>", "</s>", True, [], [], "plain"),
    ("Mistral v3 Tekken (Nemo)", "mistralai-Mistral-Nemo-Instruct-2407.jinja", "<s>", "</s>", True, ["[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]"], [], "plain system tools"),
    ("Mistral v7 Tekken (Small 3.2)", "Mistral-Small-3.2-24B-Instruct-2506.jinja", "<s>", "</s>", True, ["[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[ARGS]", "[CALL_ID]", "[TOOL_CONTENT]"], [], "system tools"),
    ("Phi 3.5", "microsoft-Phi-3.5-mini-instruct.jinja", "<s>", "<|endoftext|>", False, ["<|user|>", "<|assistant|>", "<|system|>", "<|end|>"], [], "plain system"),
    ("DeepSeek R1 (distilled)", "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", True, ["<｜User｜>", "<｜Assistant｜>"], ["<think>", "</think>", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>", "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>", "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"], "plain system"),
    ("DeepSeek V3.1", "deepseek-ai-DeepSeek-V3.1.jinja", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", True, ["<｜User｜>", "<｜Assistant｜>"], ["<think>", "</think>"], "plain system quiet"),
    ("Granite 3.3", "ibm-granite-granite-3.3-2B-Instruct.jinja", None, "<|end_of_text|>", False, ["<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>"], [], "system"),
    ("Granite 4.0", "ibm-granite-granite-4.0.jinja", None, "<|end_of_text|>", False, ["<|start_of_role|>", "<|end_of_role|>"], ["<tool_call>", "</tool_call>"], "plain system tools"),
    ("GPT-OSS", "openai-gpt-oss-120b.jinja", "<|startoftext|>", "<|return|>", False, ["<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|call|>", "<|constrain|>"], [], "plain system tools"),
    ("SmolLM 3", "HuggingFaceTB-SmolLM3-3B.jinja", None, "<|im_end|>", False, ["<|im_start|>"], ["<think>", "</think>", "<tool_call>", "</tool_call>"], "system"),
]

# What differs, and why it may.
EXCEPTIONS = {
    ("Mistral v3 Tekken (Nemo)", "system"): "the template puts the system's turn before the last question alone, and only until it is answered: "
    "transformers drops it without a word",
    ("DeepSeek V3.1", "plain"): "llama.cpp asks for thinking unless `enable_thinking` is false, so that the answer begins by ending it",
    ("DeepSeek V3.1", "system"): "the same",
}


def conversations(kinds):
    for kind in kinds.split():
        if kind == "plain":
            yield kind, {"messages": PLAIN}
        elif kind == "system":
            yield kind, {"messages": [SYSTEM] + PLAIN}
        elif kind == "tools":
            yield kind, {"messages": TOOL, "tools": TOOLS}
        elif kind == "thought":
            yield kind, {"messages": THOUGHT}
        elif kind == "quiet":
            yield kind, {"messages": PLAIN, "chat_template_kwargs": {"enable_thinking": False}}


def tokenizer(template, bos, eos, control, further):
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("i", "n"), ("Ċ", "Ċ"), ("Ġ", "i"), ("Ġi", "s"), ("o", "n"), ("Ġ", "a"), ("}", "Ċ"), (".", "Ċ"), ("e", "r")]
    tokens = letters + [a + b for a, b in merges]
    special = [t for t in [bos, eos] if t] + control
    tokens += special + further
    model = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    model.decoder = decoders.ByteLevel()
    model.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    model.add_tokens([AddedToken(t, special=False, normalized=False) for t in further])
    fast = PreTrainedTokenizerFast(tokenizer_object=model, bos_token=bos, eos_token=eos, clean_up_tokenization_spaces=False)
    fast.chat_template = template
    return fast, tokens, merges, special


def write(path, template, tokens, merges, special, further, bos, eos, adds):
    out = gguf.GGUFWriter(path, "llama")
    out.add_block_count(1)
    out.add_context_length(4096)
    out.add_embedding_length(32)
    out.add_feed_forward_length(32)
    out.add_head_count(1)
    out.add_layer_norm_rms_eps(1e-6)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list(tokens)
    kinds = {t: gguf.TokenType.CONTROL for t in special} | {t: gguf.TokenType.USER_DEFINED for t in further}
    out.add_token_types([kinds.get(t, gguf.TokenType.NORMAL) for t in tokens])
    out.add_token_merges([a + " " + b for a, b in merges])
    if bos:
        out.add_bos_token_id(tokens.index(bos))
    out.add_eos_token_id(tokens.index(eos))
    out.add_add_bos_token(adds)
    out.add_chat_template(template)
    # Only its tokenizer is read.
    out.add_tensor("token_embd.weight", numpy.zeros((len(tokens), 32), dtype=numpy.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def reference(fast, sample):
    """Tokens of the whole conversation, and the places of those that the assistant's turns touch."""
    options = dict(sample.get("chat_template_kwargs") or {}, tools=sample.get("tools"), tokenize=False)
    messages = sample["messages"]

    def render(upto, opens):
        return fast.apply_chat_template(messages[:upto], add_generation_prompt=opens, **options)

    whole = render(len(messages), False)
    encoded = fast(whole, add_special_tokens=False, return_offsets_mapping=True)
    spans = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        asked, answered = render(index, True), render(index + 1, False)
        last = index == len(messages) - 1
        if not whole.startswith(answered) or not (last or answered.startswith(asked)):
            continue  # rewritten once others follow: seen elsewhere
        spans.append((len(os.path.commonprefix([asked, answered])), len(answered)))
    learned = [
        place for place, (start, end) in enumerate(encoded["offset_mapping"]) if any(start < b and end > a for a, b in spans)
    ]
    return encoded["input_ids"], learned, whole


def main():
    ladder, folder = sys.argv[1:3]
    verbose = len(sys.argv) > 3
    rows, failed = [], 0
    with tempfile.TemporaryDirectory() as place:
        for name, template, bos, eos, adds, control, further, kinds in FAMILIES:
            if template.endswith(".jinja"):
                with open(os.path.join(folder, template)) as file:
                    template = file.read()
            fast, tokens, merges, special = tokenizer(template, bos, eos, control, further)
            model = os.path.join(place, re.sub(r"\W", "", name) + ".gguf")
            write(model, template, tokens, merges, special, further, bos, eos, adds)
            for kind, sample in conversations(kinds):
                if "date_string" in template:
                    # llama.cpp gives templates today's date, transformers gives none.
                    sample = dict(sample, chat_template_kwargs=dict(sample.get("chat_template_kwargs") or {}, date_string="26 Jul 2024"))
                data = os.path.join(place, "data.jsonl")
                with open(data, "w") as file:
                    file.write(json.dumps(sample, ensure_ascii=False) + "\n")
                result = subprocess.run(
                    [ladder, "data", "--model", model, "--data", data, "--json", "--max-length", "8192"], capture_output=True, text=True)
                try:
                    wanted, learned, text = reference(fast, sample)
                except Exception as error:
                    rows.append((name, kind, "transformers refuses it: %s" % str(error).splitlines()[0]))
                    continue
                if result.returncode:
                    verdict = "refused: " + result.stderr.strip().split("data.jsonl:1: ")[-1]
                    failed += (name, kind) not in EXCEPTIONS
                else:
                    views = json.loads(result.stdout)["shown"][0]["sequences"]
                    got = views[-1]["tokens"]
                    if got == wanted and views[-1]["learned"] == learned:
                        verdict = "the same: %d tokens, %d learned%s" % (len(got), len(learned), ", %d views" % len(views) if len(views) > 1 else "")
                    else:
                        failed += (name, kind) not in EXCEPTIONS
                        at = next((i for i, (a, b) in enumerate(zip(got, wanted)) if a != b), min(len(got), len(wanted)))
                        verdict = "differs: %d tokens for %d, first at %d; learned %d for %d" % (
                            len(got), len(wanted), at, len(views[-1]["learned"]), len(learned))
                        if verbose:
                            print("LADDER      ", repr(fast.decode(got)))
                            print("TRANSFORMERS", repr(text))
                            print("LEARNED", repr(fast.decode([got[i] for i in views[-1]["learned"]])), "FOR", repr(fast.decode([wanted[i] for i in learned])))
                if (name, kind) in EXCEPTIONS:
                    verdict += " (" + EXCEPTIONS[name, kind] + ")"
                rows.append((name, kind, verdict))
    print("| template | conversation | tokens of `ladder data` against transformers |\n| --- | --- | --- |")
    for row in rows:
        print("| %s | %s | %s |" % row)
    sys.exit(1 if failed else 0)


main()
