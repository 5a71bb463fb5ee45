// One model's answer to one question, as it streams.

import { isAbort, stream } from "./api.js";
import { copy, make, number, say, set, write } from "./dom.js";
import { Aligner, describeMark, entriesOf, isCompared, markOf } from "./marks.js";
import { TokenText } from "./tokens.js";

// A QLoRA run, and any adapter, changes the model itself: there is no base in the same pass to compare with.
export const changesModel = (model) => model.method === "qlora" || model.method === "adapter";

export class Answer {
  // `again` is called for another answer in this one's place.
  constructor(model, again) {
    this.model = model;
    this.name = model.parent ? model.id : `${model.id} (base)`;
    this.tokens = new TokenText(
      (data) => describeMark({ name: model.id, ...data }), { role: "group", "aria-label": "Text" });
    this.thoughts = make("div.text");
    this.thinking = make("details.thinking", { hidden: true },
      make("summary", {}, "Thinking"), this.thoughts);
    this.error = make("p.error", { hidden: true });
    this.note = make("p.note");
    this.copyButton = make("button.small", { type: "button", click: () => this.#copy() }, "Copy");
    this.againButton = make("button.small.again", { type: "button", click: again }, "Again");
    for (const button of [this.copyButton, this.againButton]) {
      button.setAttribute("aria-label", `${button.textContent}: ${this.name}`);
    }
    this.element = make("section.answer", { "aria-label": this.name },
      make("div.head", {}, make("h2", {}, this.name), this.copyButton, this.againButton),
      this.thinking, this.tokens.element, this.error, this.note);
    this.abort = null;
    this.text = "";
    this.compared = false;
  }

  get running() {
    return this.abort !== null;
  }

  // Whether a later question can build on it.
  get counts() {
    return this.text !== "" && this.error.hidden;
  }

  // Asks, and resolves when the answer has ended in whatever way.
  async start({ path, body, drawn }) {
    this.abort = new AbortController();
    this.drawn = drawn;
    this.text = "";
    this.thoughts.textContent = "";
    this.tokens.clear();
    this.aligner = new Aligner();
    this.pieces = [];
    set(this.error, { hidden: true });
    set(this.thinking, { hidden: true });
    set(this.againButton, { disabled: true });
    write(this.note, "");
    this.element.setAttribute("aria-busy", "true");
    const run = { began: performance.now(), first: null, tokens: null, chunks: 0, reason: null };
    let end;
    try {
      for await (const chunk of stream(path, body, this.abort.signal)) this.#take(chunk, run);
      end = this.#summary(run);
    } catch (error) {
      if (isAbort(error)) {
        end = "Stopped. " + this.#summary(run);
      } else {
        const way = /chat template/.test(error.message) ? ". Choose “Prompt as it stands” above." : "";
        set(this.error, { hidden: false, textContent: error.message + way });
        end = this.text ? this.#summary(run) : "";
      }
    }
    this.pieces.push(...this.aligner.rest());
    this.#draw();
    if (!this.text && this.error.hidden) end = `An empty answer. ${end}`;
    write(this.note, end);
    this.abort = null;
    this.element.removeAttribute("aria-busy");
    set(this.againButton, { disabled: false });
    const text = this.text.slice(0, 600) || "an empty answer";
    say(`${this.name}: ${this.error.hidden ? text : this.error.textContent}`);
    this.drawn();
  }

  stop() {
    this.abort?.abort();
  }

  #take(chunk, run) {
    if (chunk.usage) run.tokens = chunk.usage.completion_tokens;
    const choice = chunk.choices?.[0];
    if (!choice) return;
    run.first ??= performance.now();
    run.chunks += 1;
    run.reason = choice.finish_reason ?? run.reason;
    const thought = choice.delta?.reasoning_content;
    if (thought) {
      this.thinking.hidden = false;
      this.thoughts.append(thought);
    }
    const text = choice.text ?? choice.delta?.content ?? "";
    if (thought && !text) return; // the tokens of a thought are not the answer's
    this.text += text;
    this.pieces.push(...this.aligner.add(text, entriesOf(choice)));
    if (this.pieces.length) this.frame ??= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    for (const { text, entries } of this.pieces.splice(0)) {
      if (!entries) this.tokens.text(text);
      else {
        this.compared ||= isCompared(entries);
        this.tokens.token(text, { text, entries }, markOf(entries));
      }
    }
    this.drawn();
  }

  #summary({ first, tokens, chunks, reason }) {
    const count = tokens ?? chunks;
    const seconds = first === null ? 0 : (performance.now() - first) / 1000;
    const parts = [`${number(count)} ${count === 1 ? "token" : "tokens"}`];
    const speed = Math.round(count / seconds * 10) / 10;
    if (count > 4 && seconds > 0.05) parts.push(`${number(speed)} a second`);
    if (reason === "length") parts.push("ended at the most tokens");
    return parts.join(", ") + (changesModel(this.model) ? ". Not marked: this adapter changes the model itself." : ".");
  }

  async #copy() {
    let word = "Copied";
    try {
      await copy(this.text);
    } catch {
      word = "Could not copy";
    }
    write(this.copyButton, word);
    say(word);
    setTimeout(() => write(this.copyButton, "Copy"), 1500);
  }
}
