// The list of training runs, and which of them are shown beside it.

import { getJSON, isAbort } from "./api.js";
import { $, duration, make, number, set, write } from "./dom.js";
import { Shown, addressOf } from "./shown.js";

const list = $("#run-list ul");
const note = $("#no-runs");
const place = $("#shown");
const items = new Map(); // by the run's name

let runs = [];
let shown = null;
let visible = false;
let timer = 0;
let ticking = false; // the address changes by a tick in the list, which keeps the focus there
const colours = new Map();

export function startRuns() {
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && visible) watch();
  });
}

// Shows what the address names: ["a,b", "curves"]; null hides the page.
export function showRuns(path) {
  visible = path !== null;
  clearTimeout(timer);
  if (!visible) return;
  show(namesIn(path[0]));
  shown?.showTab(path[1]);
  watch();
}

const namesIn = (text = "") => text.split(",").filter(Boolean).map(decoded);

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function show(names) {
  document.title = `${names.length ? names.join(", ") : "Runs"} – Ladder`;
  if (names.join("\n") === (shown?.names ?? []).join("\n")) return;
  shown?.close();
  giveColours(names);
  shown = names.length ? new Shown(names, colours) : null;
  if (shown) place.replaceChildren(shown.element);
  else place.replaceChildren(make("p.empty", {}, "Choose a run, or tick several to compare them."));
  // On a narrow page the run stands below the list.
  if (shown && !ticking && matchMedia("(max-width: 800px)").matches) shown.title.focus();
  ticking = false;
  drawList();
}

// A run keeps its colour while it is shown; a new one takes the first that is free.
function giveColours(names) {
  for (const name of colours.keys()) if (!names.includes(name)) colours.delete(name);
  for (const name of names) {
    if (colours.has(name)) continue;
    const taken = new Set(colours.values());
    const free = [1, 2, 3, 4, 5, 6, 7, 8].find((colour) => !taken.has(colour));
    colours.set(name, free ?? 1 + (colours.size % 8));
  }
}

// Reads the list, then what is new of the shown runs, and again after a while.
async function watch() {
  clearTimeout(timer);
  const showing = shown;
  try {
    runs = (await getJSON("runs")).runs;
    note.classList.remove("error");
    note.hidden = runs.length > 0;
    write(note, "No runs yet. `ladder train` writes one, and it appears here.");
    drawList();
    place.hidden = !runs.length && !shown;
    if (!location.hash && runs.length === 1) location.replace(addressOf([runs[0].name]));
    await showing?.update(runs);
  } catch (error) {
    if (!isAbort(error)) {
      note.hidden = false;
      note.classList.add("error");
      write(note, error.message);
    }
  }
  clearTimeout(timer);
  const pause = runs.some((run) => run.state === "training") ? 1500 : 5000;
  if (visible && !document.hidden) timer = setTimeout(watch, pause);
}

function drawList() {
  for (const [name, item] of items) {
    if (runs.some((run) => run.name === name)) continue;
    item.element.remove();
    items.delete(name);
  }
  runs.forEach((run, n) => {
    const item = items.get(run.name) ?? makeItem(run.name);
    items.set(run.name, item);
    if (list.children[n] !== item.element) list.insertBefore(item.element, list.children[n] ?? null);
    item.draw(run);
  });
}

function makeItem(name) {
  const tick = make("input", { type: "checkbox", "aria-label": `Show ${name}`, change: () => {
    const names = namesIn(location.hash.split("/")[1]); // `shown` follows a moment later
    const next = tick.checked ? [...names, name] : names.filter((each) => each !== name);
    ticking = true;
    location.hash = next.length ? addressOf(next) : "#runs";
  } });
  const link = make("a", { href: addressOf([name]) }, name);
  const state = make("span.state");
  const bar = make("progress", { "aria-label": `Steps of ${name}` });
  const line = make("p.note");
  const element = make("li.run", {}, tick,
    make("div", {}, make("div.head", {}, link, state), bar, line));
  const draw = (run) => {
    const is = shown?.names.includes(name) ?? false;
    tick.checked = is;
    element.classList.toggle("is-shown", is);
    if (is) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
    state.className = `state ${run.state}`;
    write(state, run.state);
    set(bar, { max: run.total_steps || 1, value: run.step ?? 0 });
    const left = run.state === "training" && run.seconds_left !== null
      ? `${duration(run.seconds_left)} left` : null;
    const parts = [`${number(run.step)} of ${number(run.total_steps)}`,
      `loss ${number(run.loss)}`, left];
    write(line, parts.filter(Boolean).join(" · "));
  };
  return { element, draw };
}
