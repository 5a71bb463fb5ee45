// Curves in SVG, with the values where the pointer or the arrow keys are.

import { make, number, set, write } from "./dom.js";

const HEIGHT = 190;
const EDGE = { left: 58, right: 14, top: 8, bottom: 24 };

function svg(kind, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", kind);
  put(element, attributes);
  element.append(...children);
  return element;
}

function put(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
}

// The place in ascending `list` nearest to `value`.
export function nearest(list, value) {
  let low = 0;
  let high = list.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low > 0 && value - list[low - 1] < list[low] - value ? low - 1 : low;
}

// Round values from `low` to `high`, about `count` of them; `steps` are the distances that are round
// where decimal ones are not.
function ticks(low, high, count, steps = []) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = steps.find((each) => each >= rough)
    ?? [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const list = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n += 1) {
    list.push(Number((n * step).toPrecision(12)));
  }
  return list;
}

function logTicks(low, high) {
  const list = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power += 1) {
    for (const factor of [1, 2, 5]) list.push(Number(`${factor}e${power}`));
  }
  const inside = list.filter((value) => value >= low && value <= high);
  if (inside.length < 3) return ticks(low, high, 4);
  const tens = inside.filter((value) => String(value.toExponential())[0] === "1");
  return inside.length <= 6 ? inside : tens.length > 1 ? tens : inside.filter((_, n) => n % 2 === 0);
}

// Charts that show the values at one place together.
export class ChartGroup {
  charts = [];

  at(x) {
    for (const chart of this.charts) chart.point(x);
  }
}

export class Chart {
  // `format` words a value; `zero` starts the scale at 0.
  constructor(group, { title, format = number, zero = false }) {
    Object.assign(this, { group, title, format, zero, series: [], x: null, width: 0 });
    group.charts.push(this);
    this.axes = svg("g", { class: "axes" });
    this.lines = svg("g", { class: "lines" });
    this.cursor = svg("g", { class: "cursor" });
    this.svg = svg("svg", { "aria-hidden": "true" }, this.axes, this.lines, this.cursor);
    this.plot = make("div.plot", { role: "slider", tabIndex: 0, "aria-label": title }, this.svg);
    this.legend = make("ul.keys");
    this.where = make("span.where");
    this.element = make("figure.chart", {},
      make("figcaption", {}, make("h3", {}, title), this.where, this.legend), this.plot);
    const over = (event) => {
      const x = event.clientX - this.plot.getBoundingClientRect().left;
      this.group.at(this.#snap(this.scale?.back(x) ?? null));
    };
    this.plot.addEventListener("pointermove", over);
    this.plot.addEventListener("pointerdown", over);
    this.plot.addEventListener("pointerleave", () => {
      if (document.activeElement !== this.plot) this.group.at(null);
    });
    this.plot.addEventListener("blur", () => this.group.at(null));
    this.plot.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(([{ contentRect }]) => {
      if (contentRect.width === this.width) return;
      this.width = contentRect.width;
      this.draw();
    }).observe(this.plot);
  }

  // Series: {name, colour, x, y} with `kind` "raw" (faint), "line", "thin" or "dots"; `quiet` ones
  // stand in no legend. `over` is {label, format, steps} of the x axis.
  update(series, over, log = false) {
    Object.assign(this, { series, over, log });
    this.draw();
  }

  draw() {
    if (!this.width || !this.over) return;
    put(this.svg, { viewBox: `0 0 ${this.width} ${HEIGHT}`, width: this.width, height: HEIGHT });
    this.scale = this.#scale();
    this.axes.replaceChildren();
    if (this.scale) this.#drawAxes();
    const paths = this.scale ? this.series.flatMap((series) => this.#paths(series)) : [];
    while (this.lines.childElementCount > paths.length) this.lines.lastChild.remove();
    paths.forEach((path, index) =>
      put(this.lines.children[index] ?? this.lines.appendChild(svg("path")), path));
    this.#describe();
    this.point(this.x);
  }

  // Shows the values at `x`; the last ones for null.
  point(x) {
    this.x = x;
    this.cursor.replaceChildren();
    const { scale } = this;
    if (x !== null && scale) {
      const at = scale.x(x);
      const line = { x1: at, x2: at, y1: EDGE.top, y2: HEIGHT - EDGE.bottom };
      this.cursor.append(svg("line", line));
    }
    const named = this.series.filter((series) => !series.quiet && series.x.length);
    while (this.legend.childElementCount > named.length) this.legend.lastChild.remove();
    const words = named.map((series, index) => {
      const place = x === null ? series.x.length - 1 : nearest(series.x, x);
      const value = series.y[place];
      const far = x !== null && scale ? Math.abs(scale.x(series.x[place]) - scale.x(x)) : 0;
      const beyond = far > 12 && (place === 0 || place === series.x.length - 1);
      const shown = beyond ? "–" : this.format(value);
      if (x !== null && far <= 12 && scale?.shows(value)) {
        const dot = { cx: scale.x(series.x[place]), cy: scale.y(value), r: 3.5 };
        this.cursor.append(svg("circle", { ...dot, class: `colour${series.colour}` }));
      }
      const item = this.legend.children[index] ?? this.legend.appendChild(
        make("li", {}, make("i", { "aria-hidden": "true" }), make("span"), make("b")));
      item.firstChild.className = `${series.kind} colour${series.colour}`;
      write(item.children[1], series.name);
      write(item.children[2], shown);
      return `${series.name} ${shown}`;
    });
    write(this.where, x === null ? "" : `${this.over.label} ${this.over.format(x)}`);
    const place = x ?? scale?.last ?? 0;
    const where = scale ? `${this.over.label} ${this.over.format(place)}: ` : "no values yet";
    set(this.plot, { "aria-valuenow": place, "aria-valuetext": where + words.join(", ") });
  }

  #scale() {
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    const shows = (y) => y !== null && Number.isFinite(y) && (!this.log || y > 0);
    for (const { x, y } of this.series) {
      for (let n = 0; n < x.length; n += 1) {
        if (!shows(y[n])) continue;
        if (x[n] < left) left = x[n];
        if (x[n] > right) right = x[n];
        if (y[n] < low) low = y[n];
        if (y[n] > high) high = y[n];
      }
    }
    if (left > right) return null;
    const last = right;
    if (left === right) right = left + 1;
    if (this.zero && !this.log) low = Math.min(low, 0);
    if (low === high) {
      low -= Math.abs(low) / 10 + 1e-9;
      high += Math.abs(high) / 10 + 1e-9;
    }
    const measure = this.log ? Math.log : (value) => value;
    const [bottom, top] = [measure(low), measure(high)];
    const across = this.width - EDGE.left - EDGE.right;
    const up = HEIGHT - EDGE.top - EDGE.bottom;
    return {
      left, right, low, high, last, shows,
      x: (value) => EDGE.left + (value - left) / (right - left) * across,
      y: (value) => EDGE.top + (top - measure(value)) / (top - bottom) * up,
      back: (place) => left + (place - EDGE.left) / across * (right - left),
    };
  }

  #drawAxes() {
    const { left, right, low, high, x, y } = this.scale;
    const end = this.width - EDGE.right;
    const places = Math.max(2, Math.floor(this.width / 90));
    for (const value of this.log ? logTicks(low, high) : ticks(low, high, 4)) {
      const at = y(value);
      this.axes.append(
        svg("line", { x1: EDGE.left, x2: end, y1: at, y2: at }),
        svg("text", { x: EDGE.left - 8, y: at + 4, "text-anchor": "end" }, this.format(value)));
    }
    for (const value of ticks(left, right, places, this.over.steps)) {
      const text = this.over.format(value);
      const at = Math.min(x(value), this.width - text.length * 3.2);
      this.axes.append(
        svg("text", { x: at, y: HEIGHT - 6, "text-anchor": "middle" }, text));
    }
  }

  #paths({ x, y, kind, colour }) {
    const line = { d: this.#line(x, y), class: `${kind} colour${colour}` };
    if (kind !== "dots" || x.length > 60) return [line];
    const { scale } = this;
    const dot = (value, n) => {
      if (!scale.shows(y[n])) return "";
      const [left, middle] = [scale.x(value) - 3, scale.y(y[n])];
      return `M${left.toFixed(1)} ${middle.toFixed(1)}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0`;
    };
    return [line, { d: x.map(dot).join(""), class: `points colour${colour}` }];
  }

  // At most four points for each pixel across: its first, lowest, highest and last.
  #line(x, y) {
    const { scale } = this;
    const parts = [];
    let column = null;
    const flush = () => {
      if (!column) return;
      const { at, first, low, high, last } = column;
      for (const value of new Set([first, low, high, last])) {
        parts.push(`${at.toFixed(1)} ${scale.y(value).toFixed(1)}`);
      }
    };
    const many = x.length > this.width;
    for (let n = 0; n < x.length; n += 1) {
      const value = y[n];
      if (!scale.shows(value)) continue;
      const at = many ? Math.round(scale.x(x[n])) : scale.x(x[n]);
      if (column?.at === at) {
        column.low = Math.min(column.low, value);
        column.high = Math.max(column.high, value);
        column.last = value;
      } else {
        flush();
        column = { at, first: value, low: value, high: value, last: value };
      }
    }
    flush();
    return parts.length ? `M${parts.join("L")}` : "";
  }

  #describe() {
    const { scale } = this;
    const main = this.series.find((each) => each.kind === "line") ?? this.series[0];
    if (scale && main) {
      set(this.plot, { "aria-valuemin": scale.left, "aria-valuemax": scale.right });
      const from = this.format(main.y.find((value) => scale.shows(value)));
      const to = this.format(main.y.findLast((value) => scale.shows(value)));
      this.plot.setAttribute("aria-label", `${this.title}: ${main.name} from ${from} to ${to}`);
    }
  }

  #longest() {
    return this.series.reduce((a, b) => (b.x.length > (a?.x.length ?? 0) ? b : a), null);
  }

  #snap(x) {
    const series = this.#longest();
    return x === null || !series ? null : series.x[nearest(series.x, x)];
  }

  #key(event) {
    const list = this.#longest()?.x;
    if (!list) return;
    const at = this.x === null ? list.length - 1 : nearest(list, this.x);
    const far = Math.max(1, Math.round(list.length / 20));
    const to = {
      ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1,
      PageDown: at - far, PageUp: at + far, Home: 0, End: list.length - 1,
    }[event.key];
    if (event.key === "Escape") this.group.at(null);
    if (to === undefined) return;
    event.preventDefault();
    this.group.at(list[Math.max(0, Math.min(list.length - 1, to))]);
  }
}
