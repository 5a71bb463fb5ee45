// The chosen run: its curves, settings and data. Or several runs, compared.

import { getJSON, isAbort } from "./api.js";
import { Chart, ChartGroup, nearest } from "./chart.js";
import { showData } from "./data.js";
import { bytes, duration, make, number, set, tabList, write } from "./dom.js";
import { differences, settingsTables } from "./manifest.js";
import { Metrics } from "./metrics.js";

const OVER = {
  step: { label: "Steps", one: "step", format: number },
  tokens: { label: "Tokens read", one: "token", format: number },
  seconds: { label: "Time", one: "after", format: duration, steps: [
    ...[1, 2, 5, 10, 15, 30], ...[1, 2, 5, 10, 15, 30].map((minutes) => minutes * 60),
    ...[1, 2, 4, 6, 12, 24, 48, 96].map((hours) => hours * 3600),
  ] },
};
// Kept from run to run; the smoothing is a share of the run.
const view = { smoothing: 0.04, over: "step", log: false };

export const addressOf = (names, tab) =>
  ["#runs", names.map(encodeURIComponent).join(","), ...(tab ? [tab] : [])].join("/");

const smoothedOf = ({ metrics, summary }) =>
  metrics.smoothed(view.smoothing * Math.max(metrics.length, summary?.total_steps ?? 0));

export class Shown {
  // `colours` is kept from one comparison to the next, so that a run stays in its colour.
  constructor(names, colours) {
    this.names = names;
    this.abort = new AbortController();
    this.runs = names.map((name, n) => ({
      name, metrics: new Metrics(name), colour: names.length > 1 ? colours.get(name) : n + 1,
    }));
    this.single = names.length === 1;
    const title = this.single ? names[0] : `${names.length} runs compared`;
    this.title = make("h2", { tabIndex: -1 }, title);
    this.about = make("p.note");
    this.figures = make("dl.figures");
    this.trouble = make("p.error", { hidden: true });
    const tabs = this.single
      ? [["curves", "Curves"], ["settings", "Settings"], ["data", "Data"]]
      : [["curves", "Curves"], ["differences", "Differences"]];
    this.tabNames = tabs.map(([name]) => name);
    this.tabs = tabList(tabs, "Of the run", (tab) => {
      location.hash = addressOf(names, tab === "curves" ? null : tab);
    });
    this.panel = make("div", { role: "tabpanel", id: "tab-panel", tabIndex: 0 });
    this.element = make("div", {}, this.title, this.about, this.figures, this.trouble, this.tabs,
      this.panel);
    this.#makeCurves();
  }

  close() {
    this.abort.abort();
  }

  showTab(tab) {
    const name = this.tabNames.includes(tab) ? tab : "curves";
    if (this.tab === name) return;
    this.tab = name;
    this.tabs.choose(name);
    this.panel.setAttribute("aria-labelledby", `tab-${name}`);
    if (name === "curves") {
      this.panel.replaceChildren(this.curves);
      this.#drawCurves();
      return;
    }
    this.panel.replaceChildren(make("p.note", {}, "Reading…"));
    const fill = { settings: () => this.#settings(), data: () => this.#data(),
      differences: () => this.#differences() }[name];
    fill().catch((error) => {
      if (!isAbort(error) && this.tab === name) {
        this.panel.replaceChildren(make("p.error", {}, error.message));
      }
    });
  }

  // Takes the list's new state of the runs, and reads what their files have gained.
  async update(summaries) {
    let changed = false;
    for (const run of this.runs) {
      const before = run.summary;
      run.summary = summaries.find((summary) => summary.name === run.name);
      const moved = !before || before.updated !== run.summary?.updated
        || before.step !== run.summary?.step || before.state !== run.summary?.state;
      if (!moved && run.summary?.state !== "training") continue;
      try {
        changed = await run.metrics.read(this.abort.signal) || changed;
        run.error = null;
      } catch (error) {
        if (isAbort(error)) return;
        run.error = error;
      }
      if (before && before.state !== run.summary?.state) run.manifest = null;
    }
    const errors = this.runs.filter((run) => run.error);
    set(this.trouble, { hidden: !errors.length });
    write(this.trouble, errors.map((run) => `${run.name}: ${run.error.message}`).join(" "));
    this.#writeHead();
    if (changed && this.tab === "curves") this.#drawCurves();
    if (this.tab !== "differences" || !this.table) return;
    await Promise.all(this.runs.map((run) => this.#manifestOf(run))).catch(() => {});
    this.#drawDifferences();
  }

  #writeHead() {
    const { summary } = this.runs[0];
    if (!this.single || !summary) return;
    const parts = [summary.method, summary.objective && `objective ${summary.objective}`,
      summary.state, `epoch ${number(Math.round((summary.epoch ?? 0) * 100) / 100)}`];
    write(this.about, parts.filter(Boolean).join(", "));
    if (summary.served) {
      this.about.append(" · ",
        make("a", { href: `#chat/${encodeURIComponent(summary.name)}` }, "Try it in the chat"));
    }
    const figures = [
      ["Step", `${number(summary.step)} of ${number(summary.total_steps)}`],
      ["Loss", number(summary.loss)],
      ["Best validation", number(summary.validation_loss)],
      ["Tokens a second", number(Math.round(summary.tokens_per_second ?? NaN))],
      ["Peak memory", bytes(summary.peak_bytes)],
      ["Took so far", duration(summary.seconds)],
      ["Time left", summary.state === "training" ? duration(summary.seconds_left) : "–"],
    ];
    if (summary.state !== "training") {
      figures[5][0] = "Took";
      figures.pop();
    }
    while (this.figures.childElementCount > figures.length) this.figures.lastChild.remove();
    figures.forEach(([label, text], n) => {
      const item = this.figures.children[n] ?? this.figures.appendChild(
        make("div", {}, make("dt"), make("dd")));
      write(item.children[0], label);
      write(item.children[1], text);
    });
  }

  // MARK: - Curves

  #makeCurves() {
    const redraw = () => this.#drawCurves();
    const share = make("output");
    const smoothing = make("input", { type: "range", min: 0, max: 0.2, step: 0.01, input: () => {
      view.smoothing = Number(smoothing.value);
      redraw();
      showShare();
    } });
    smoothing.value = view.smoothing;
    const showShare = () => {
      const text = `${Math.round(view.smoothing * 100)}% of the run`;
      smoothing.setAttribute("aria-valuetext", text);
      write(share, text);
    };
    showShare();
    const over = make("select", { change: () => { view.over = over.value; redraw(); } },
      ...Object.entries(OVER).map(([value, { label }]) => make("option", { value }, label)));
    over.value = view.over;
    const log = make("input", { type: "checkbox", checked: view.log,
      change: () => { view.log = log.checked; redraw(); } });
    const group = new ChartGroup();
    this.charts = {
      loss: new Chart(group, { title: "Loss" }),
      learning_rate: new Chart(group, { title: "Learning rate", zero: true }),
      tokens_per_second: new Chart(group, { title: "Tokens a second", zero: true }),
      peak_bytes: new Chart(group, { title: "Peak memory", zero: true, format: (value) =>
        value === 0 ? "0" : bytes(value) }),
      gradient_norm: new Chart(group, { title: "Gradient norm", zero: true }),
    };
    this.values = make("details", { toggle: () => this.#drawValues() },
      make("summary", {}, "Values as a table"));
    this.curves = make("div", {},
      make("div.controls", {}, make("label", {}, "Smoothing ", smoothing, share),
        make("label", {}, "Over ", over), make("label.check", {}, log, " Logarithmic loss")),
      make("div.charts", {}, ...Object.values(this.charts).map((chart) => chart.element)),
      this.values);
  }

  #drawCurves() {
    const { over, log } = view;
    const axis = { ...OVER[over], label: OVER[over].one };
    const loss = [];
    for (const run of this.runs) {
      const { name, metrics, colour } = run;
      const x = metrics.columns[over];
      const y = metrics.columns.loss;
      loss.push({ name: "each step", colour, x, y, kind: "raw", quiet: !this.single });
      loss.push({ name: this.single ? "smoothed" : name, colour, x, y: smoothedOf(run), kind: "line" });
      if (metrics.validation.at.length) {
        loss.push({ name: this.single ? "validation" : `${name}, validation`,
          colour: this.single ? 2 : colour, x: metrics.validationOver(over), y: metrics.validation.loss, kind: "dots" });
      }
    }
    this.charts.loss.update(loss, axis, log);
    for (const [key, chart] of Object.entries(this.charts)) {
      if (key === "loss") continue;
      chart.update(this.runs.map(({ name, metrics, colour }) => ({
        name: this.single ? "" : name, colour, kind: "thin", x: metrics.columns[over],
        y: metrics.columns[key],
      })), axis);
    }
    this.#drawValues();
  }

  // Twenty steps in words, for those who do not see the curves.
  #drawValues() {
    if (!this.values.open) return;
    const longest = this.runs.reduce((a, b) => (b.metrics.length > a.metrics.length ? b : a));
    const steps = longest.metrics.columns.step;
    const count = Math.min(20, steps.length);
    const places = [...Array(count).keys()].map((n) =>
      Math.round((n + 1) / count * steps.length) - 1);
    const columns = this.single
      ? [["Loss", "loss", number], ["Smoothed", null, number],
        ["Learning rate", "learning_rate", number], ["Tokens a second", "tokens_per_second", number],
        ["Peak memory", "peak_bytes", bytes]]
        .map(([label, key, format]) => ({ label, format, metrics: longest.metrics,
          list: key ? longest.metrics.columns[key] : smoothedOf(longest) }))
      : this.runs.map((run) => ({ label: `Smoothed loss of ${run.name}`, metrics: run.metrics,
        format: number, list: smoothedOf(run) }));
    const rows = places.map((place) => make("tr", {},
      make("th", { scope: "row" }, number(steps[place])),
      ...columns.map(({ metrics, list, format }) => {
        const at = metrics.length ? nearest(metrics.columns.step, steps[place]) : -1;
        return make("td", {}, metrics.columns.step[at] === steps[place] ? format(list[at]) : "–");
      })));
    const heads = ["Step", ...columns.map(({ label }) => label)];
    this.values.replaceChildren(this.values.firstElementChild, scrolling("Values", make("table", {},
      make("thead", {}, make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, ...rows))));
  }

  // MARK: - Settings, data, differences

  async #manifestOf(run) {
    const read = () => getJSON(`runs/${encodeURIComponent(run.name)}`, this.abort.signal);
    run.manifest ??= (await read()).manifest;
    if (!run.manifest) throw new Error(`${run.name} has no settings yet.`);
    return run.manifest;
  }

  async #settings() {
    const manifest = await this.#manifestOf(this.runs[0]);
    if (this.tab === "settings") this.panel.replaceChildren(settingsTables(manifest));
  }

  async #data() {
    const place = make("div.data");
    await showData(place, this.names[0], this.abort.signal);
    if (this.tab === "data") this.panel.replaceChildren(place);
  }

  async #differences() {
    await Promise.all(this.runs.map((run) => this.#manifestOf(run)));
    if (this.tab !== "differences") return;
    this.table = make("table.differences");
    this.panel.replaceChildren(scrolling("Results and settings", this.table));
    this.#drawDifferences();
  }

  #drawDifferences() {
    if (this.runs.some((run) => !run.manifest)) return;
    const losses = this.runs.map((run) => run.metrics.lastLosses());
    const of = (format, key) => this.runs.map(({ summary }) => format(summary?.[key]));
    const results = [
      ["State", of((state) => state ?? "gone", "state")],
      ["Steps", of(number, "step")],
      ["Last loss", losses.map(({ last }) => number(last))],
      ["Mean loss of the last tenth", losses.map(({ mean }) => number(mean))],
      ["Best validation loss", of(number, "validation_loss")],
      ["Last validation loss", this.runs.map((run) => number(run.metrics.validation.loss.at(-1)))],
      ["Tokens a second", of((speed) => number(Math.round(speed)), "tokens_per_second")],
      ["Peak memory", of(bytes, "peak_bytes")],
      ["Took", of(duration, "seconds")],
    ];
    const { differing, same } = differences(this.runs.map((run) => run.manifest));
    const line = (label, texts) => make("tr", {}, make("th", { scope: "row" }, label),
      ...texts.map((text) => make("td", {}, text)));
    const heading = (text) => make("tr.part", {}, make("th", {
      colSpan: this.runs.length + 1, scope: "rowgroup" }, text));
    const name = (run) => make("th", { scope: "col" },
      make("i", { className: `line colour${run.colour}`, "aria-hidden": "true" }), run.name);
    this.table.replaceChildren(
      make("thead", {}, make("tr", {}, make("td"), ...this.runs.map(name))),
      make("tbody", {}, heading("Results"), ...results.map(([label, texts]) => line(label, texts))),
      make("tbody", {}, heading(`Settings that differ (${number(same)} are the same)`),
        ...differing.map(({ label, texts }) => line(label, texts))));
  }
}

// A wide table that scrolls by itself, also by keys.
function scrolling(label, table) {
  return make("div.scrolling", { role: "region", "aria-label": label, tabIndex: 0 }, table);
}
