// A run's data as the model reads it: tokens, and which of them are learned.

import { getJSON } from "./api.js";
import { make, number } from "./dom.js";
import { visible } from "./marks.js";
import { TokenText } from "./tokens.js";

const MOST = 100; // samples that the server shows

function describe({ id, text, learned, control }) {
  const kind = `${control ? "control token, " : ""}${learned ? "learned" : "not learned"}`;
  return make("div", {}, make("p", {}, make("code", {}, visible(text) || "nothing")),
    make("p", {}, `token ${id}, ${kind}`));
}

function sequence(tokens, label) {
  const text = new TokenText(describe, { role: "group", "aria-label": label });
  for (const token of tokens) {
    const kind = [token.learned && "learned", token.control && "control"].filter(Boolean).join(" ");
    text.token(token.text, token, kind);
  }
  return text.element;
}

function sample({ sample: place, notes, sequences }) {
  const named = (n) => `Sample ${place}${sequences.length > 1 ? `, sequence ${n + 1}` : ""}`;
  return make("article.sample", {}, make("h3", {}, `Sample ${number(place)}`),
    ...(notes ?? []).map((note) => make("p.note", {}, note)),
    ...sequences.map((tokens, n) => sequence(tokens, named(n))));
}

// Fills `panel` with the data of a run, and shows more samples where asked.
export async function showData(panel, name, signal, show = 5) {
  const data = await getJSON(`runs/${encodeURIComponent(name)}/data?show=${show}`, signal);
  const figures = [
    `${number(data.samples)} samples`,
    `${number(data.tokens)} tokens, ${number(data.learned)} of them learned`,
    `the longest ${number(data.longest)}`,
  ];
  const more = make("button", { type: "button", click: async () => {
    more.disabled = true;
    const seen = data.shown.length;
    await showData(panel, name, signal, Math.min(MOST, show * 4)).catch((error) => more.replaceWith(
      make("p.error", {}, error.message)));
    panel.querySelectorAll(".sample h3")[seen]?.setAttribute("tabindex", "-1");
    panel.querySelectorAll(".sample h3")[seen]?.focus();
  } }, "Show more");
  const files = [data.data].flat().join(", ");
  const kind = (className, text) => make("mark", { className }, text);
  panel.replaceChildren(
    make("p", {}, make("strong", {}, files), ` – ${figures.join("; ")}.`),
    ...(data.notes ?? []).map((note) => make("p.note", {}, note)),
    make("p.legend", {}, kind("learned", "learned"), " ", make("span", {}, "read only"), " ",
      kind("control", "<control>"), make("span", {}, "Point at a token for its number.")),
    ...data.shown.map(sample),
    ...(data.shown.length >= show && data.samples > show && show < MOST ? [more] : []));
}
