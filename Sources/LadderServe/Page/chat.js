// The chat: one question, answered by several models side by side. Each keeps its own conversation.

import { Answer, changesModel } from "./answer.js";
import { $, make, set, write } from "./dom.js";
import { hideDetails } from "./tokens.js";

const STORE = "ladder-settings";
const DEFAULTS = {
  system: "", temperature: "0", topP: "1", maxTokens: "256", seed: "", stop: "", marks: true,
};

const page = $("#chat");
const log = $("#log");
const question = $("#question");
const settingsForm = $("#settings");
const empty = $(".empty", log);

const small = matchMedia("(max-width: 800px), (max-height: 600px)"); // as in the style sheet
const scroller = () => (small.matches ? page : log);

let models = [];
const ticked = new Set(); // ids of the models that answer
let turns = []; // {question, form, answers: Map from model id to Answer, element, grid}
let follows = true; // the end of the conversation is in view, and stays so

export function startChat() {
  readSettings();
  settingsForm.addEventListener("input", keepSettings);
  settingsForm.addEventListener("submit", (event) => event.preventDefault());
  $("#settings-button").addEventListener("click", (event) => {
    settingsForm.hidden = !settingsForm.hidden;
    event.currentTarget.setAttribute("aria-expanded", String(!settingsForm.hidden));
  });
  $("#form").addEventListener("change", showForm);
  $("#composer").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  question.addEventListener("input", fit);
  question.addEventListener("keydown", keys);
  $("#stop").addEventListener("click", stop);
  $("#clear").addEventListener("click", clear);
  $("#regenerate").addEventListener("click", () => {
    for (const answer of turns.at(-1).answers.values()) ask(turns.at(-1), answer);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !page.hidden && running().length) stop();
  });
  const scrolled = ({ currentTarget: box }) => {
    if (box === scroller()) follows = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  };
  log.addEventListener("scroll", scrolled);
  page.addEventListener("scroll", scrolled);
  showForm();
}

// The models that can answer now; what is ticked stays so.
export function setModels(list) {
  const ids = list.map((model) => model.id).join("\n");
  if (ids === models.map((model) => model.id).join("\n")) return;
  const first = models.length === 0;
  models = [...list].sort((a, b) => Boolean(a.parent) - Boolean(b.parent)); // the base first
  for (const id of ticked) if (!models.some((model) => model.id === id)) ticked.delete(id);
  if (first) {
    const ladder = models.find((model) => model.parent);
    for (const model of models) if (!model.parent || model === ladder) ticked.add(model.id);
  }
  const chips = $("#sides");
  chips.replaceChildren(chips.firstElementChild, ...models.map((model) => {
    const change = () => {
      if (box.checked) ticked.add(model.id);
      else ticked.delete(model.id);
      showState();
    };
    const box = make("input", {
      type: "checkbox", value: model.id, checked: ticked.has(model.id), change });
    const kind = model.parent ? model.method ?? "" : "base";
    return make("label", {}, box, make("span", {}, model.id, make("small", {}, kind)));
  }));
  showState();
}

// Ticks the base and one ladder alone.
export function chooseLadder(id) {
  if (!models.some((model) => model.id === id)) return;
  for (const box of $("#sides").querySelectorAll("input")) {
    const model = models.find((each) => each.id === box.value);
    const is = !model.parent || model.id === id;
    if (box.checked !== is) box.click();
  }
}

const form = () => $("#form input:checked").value;
const answers = () => turns.flatMap((turn) => [...turn.answers.values()]);
const running = () => answers().filter((answer) => answer.running);

function readSettings() {
  let kept = {};
  try {
    kept = JSON.parse(localStorage.getItem(STORE)) ?? {};
  } catch {
    // nothing kept, or nothing that can be read
  }
  for (const [name, value] of Object.entries({ ...DEFAULTS, ...kept })) {
    const field = settingsForm.elements[name];
    if (!field) continue;
    if (field.type === "checkbox") field.checked = value;
    else field.value = value;
  }
}

function settings() {
  return Object.fromEntries(Object.keys(DEFAULTS).map((name) => {
    const field = settingsForm.elements[name];
    return [name, field.type === "checkbox" ? field.checked : field.value];
  }));
}

function keepSettings() {
  try {
    localStorage.setItem(STORE, JSON.stringify(settings()));
  } catch {
    // a browser that keeps nothing
  }
}

function showForm() {
  const text = form() === "text";
  settingsForm.elements.system.disabled = text;
  set(question, {
    placeholder: text ? "A prompt, to be gone on with: Review: a joy to watch" : "Ask something" });
  write($("#hint"), text
    ? "Ctrl+Enter sends. Every prompt stands alone." : "Enter sends, Shift+Enter makes a new line.");
}

function keys(event) {
  if (event.key === "Enter" && !event.isComposing && !event.shiftKey) {
    if (form() === "text" && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    send();
  } else if (event.key === "ArrowUp" && question.value === "" && turns.length) {
    event.preventDefault();
    question.value = turns.at(-1).question;
    fit();
  }
}

// Makes the field as high as its text, within limits that the style sheet sets.
function fit() {
  question.style.height = "auto";
  question.style.height = `${question.scrollHeight + 2}px`;
}

function send() {
  const text = question.value;
  if (!text.trim() || !ticked.size || running().length) return;
  const turn = { question: text, form: form(), answers: new Map() };
  turn.grid = make("div.answers");
  turn.element = make("article.turn", { "aria-label": `Question ${turns.length + 1}` },
    make("div.question", {}, make("span.hidden", {},
      turn.form === "text" ? "Prompt: " : "You: "), text),
    turn.grid);
  turns.push(turn);
  empty.remove();
  log.append(turn.element);
  question.value = "";
  fit();
  follows = true;
  for (const model of models.filter((each) => ticked.has(each.id))) {
    const answer = new Answer(model, () => ask(turn, answer));
    turn.answers.set(model.id, answer);
    turn.grid.append(answer.element);
    ask(turn, answer);
  }
}

async function ask(turn, answer) {
  if (answer.running) return;
  const ended = answer.start({ ...request(turn, answer.model), drawn: follow });
  showState();
  await ended;
  showState();
}

function request(turn, model) {
  const { system, temperature, topP, maxTokens, seed, stop: end, marks } = settings();
  const body = { model: model.id };
  const numbers = { temperature, top_p: topP, max_tokens: maxTokens, seed };
  for (const [name, value] of Object.entries(numbers)) if (value !== "") body[name] = Number(value);
  if (end) body.stop = [end.replaceAll("\\n", "\n")];
  const compares = marks && model.parent && !changesModel(model);
  if (compares) body.compare_with_base = true;
  if (turn.form === "text") {
    if (compares) body.logprobs = 3;
    return { path: "v1/completions", body: { ...body, prompt: turn.question } };
  }
  if (compares) Object.assign(body, { logprobs: true, top_logprobs: 3 });
  const messages = system.trim() ? [{ role: "system", content: system }] : [];
  for (const earlier of turns) {
    if (earlier === turn) break;
    const answer = earlier.answers.get(model.id);
    if (earlier.form !== "chat" || !answer?.counts) continue;
    messages.push({ role: "user", content: earlier.question });
    messages.push({ role: "assistant", content: answer.text });
  }
  messages.push({ role: "user", content: turn.question });
  return { path: "v1/chat/completions", body: { ...body, messages } };
}

function stop() {
  for (const answer of running()) answer.stop();
}

function clear() {
  stop();
  hideDetails();
  for (const turn of turns) turn.element.remove();
  turns = [];
  log.append(empty);
  question.focus();
  showState();
}

function follow() {
  if ($("#legend").hidden) showLegend();
  const box = scroller();
  if (follows) box.scrollTop = box.scrollHeight;
}

function showLegend() {
  $("#legend").hidden = !answers().some((answer) => answer.compared);
}

function showState() {
  const busy = running().length > 0;
  const focus = document.activeElement;
  set($("#send"), { hidden: busy, disabled: !ticked.size });
  set($("#stop"), { hidden: !busy });
  if (busy && focus === $("#send")) $("#stop").focus();
  if (!busy && focus === $("#stop")) $("#send").focus();
  set($("#regenerate"), { disabled: busy || !turns.length });
  set($("#clear"), { disabled: !turns.length });
  showLegend();
}
