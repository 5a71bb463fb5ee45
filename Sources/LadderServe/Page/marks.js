// How likely the tokens of an answer were, put onto its text.

import { make, percent } from "./dom.js";

// The entries of one streamed choice, in chat's form: {token, bytes, logprob, base_logprob,
// top_logprobs}. Plain completions have parallel lists instead.
export function entriesOf(choice) {
  const probabilities = choice.logprobs;
  if (!probabilities) return [];
  if (probabilities.content) return probabilities.content;
  const base = probabilities.base_logprobs ?? probabilities.token_base_logprobs ?? [];
  return (probabilities.tokens ?? []).map((token, index) => ({
    token,
    logprob: probabilities.token_logprobs?.[index],
    base_logprob: base[index],
    top_logprobs: Object.entries(probabilities.top_logprobs?.[index] ?? {})
      .map(([other, logprob]) => ({ token: other, logprob }))
      .sort((a, b) => b.logprob - a.logprob),
  }));
}

// Joins tokens that hold parts of one character, and finds each in the text as it comes. The text
// is what the server sent; a token that is not in it (an end of turn, say) is left out.
export class Aligner {
  #parts = []; // tokens up to a whole character
  #waiting = []; // tokens whose text has not come yet
  #text = ""; // text whose tokens have not come yet

  // The pieces that are now settled: {text} or {text, entries}.
  add(text, entries) {
    for (const entry of entries) this.#join(entry);
    this.#text += text;
    const pieces = [];
    while (this.#waiting.length && this.#text) {
      const token = this.#waiting[0];
      const trimmed = token.text.trimStart(); // the server may have cut spaces at the start
      const at = this.#text.indexOf(token.text);
      if (at < 0 && token.text.startsWith(this.#text)) break; // the rest of it is to come
      this.#waiting.shift();
      if (at >= 0 && at <= 64) {
        if (at > 0) pieces.push({ text: this.#take(at) });
        pieces.push({ text: this.#take(token.text.length), entries: token.entries });
      } else if (trimmed && this.#text.startsWith(trimmed)) {
        pieces.push({ text: this.#take(trimmed.length), entries: token.entries });
      }
    }
    if (!this.#waiting.length && this.#text) pieces.push(...this.rest());
    return pieces;
  }

  rest() {
    return this.#text ? [{ text: this.#take(this.#text.length) }] : [];
  }

  #take(length) {
    const taken = this.#text.slice(0, length);
    this.#text = this.#text.slice(length);
    return taken;
  }

  #join(entry) {
    this.#parts.push(entry);
    const bytesOf = ({ bytes, token }) => bytes ?? [...new TextEncoder().encode(token)];
    const bytes = new Uint8Array(this.#parts.flatMap(bytesOf));
    let text;
    try {
      text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      if (this.#parts.length < 4) return; // the character goes on
      text = new TextDecoder().decode(bytes);
    }
    if (text) this.#waiting.push({ text, entries: this.#parts });
    this.#parts = [];
  }
}

const sum = (entries, key) => entries.reduce((total, entry) => total + entry[key], 0);
const known = (value) => typeof value === "number";

export const isCompared = (entries) => entries.every((entry) => known(entry.base_logprob));

// The class that marks tokens by how far their probability moved: up1 … up4, down1 … down4.
export function markOf(entries) {
  if (!isCompared(entries)) return "";
  const move = Math.exp(sum(entries, "logprob")) - Math.exp(sum(entries, "base_logprob"));
  const level = [0.1, 0.25, 0.5, 0.75].filter((limit) => Math.abs(move) >= limit).length;
  return level ? `${move > 0 ? "up" : "down"}${level}` : "";
}

// Spaces and new lines made visible.
export const visible = (text) =>
  text.replaceAll(" ", "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥");

// What is shown of a token (or of several that make one character).
export function describeMark({ name, text, entries }) {
  const row = (label, probability, kind = "") => {
    const bar = make("span.bar", { "aria-hidden": "true" });
    bar.style.width = `${Math.round(probability * 64)}px`;
    return make("tr", { className: kind }, make("th", { scope: "row" }, label),
      make("td", {}, percent(probability)), make("td", {}, bar));
  };
  const rows = [row(name, Math.exp(sum(entries, "logprob")))];
  if (isCompared(entries)) rows.push(row("base", Math.exp(sum(entries, "base_logprob"))));
  const others = entries.length > 1 ? [] : entries[0].top_logprobs ?? [];
  const table = make("table", {}, make("tbody", {}, ...rows));
  if (others.length) {
    table.append(make("tbody", {},
      make("tr", {}, make("th", { colSpan: 3, scope: "rowgroup" }, `likeliest for ${name}`)),
      ...others.map((other) => row(visible(other.token), Math.exp(other.logprob), "other"))));
  }
  const pieces = entries.length > 1 ? ` (${entries.length} tokens)` : "";
  return make("div", {}, make("p", {}, make("code", {}, visible(text)), pieces), table);
}
