// A run's curves, read as its file grows.

import { getJSON } from "./api.js";

const KEYS = [
  "step", "tokens", "seconds", "loss", "learning_rate", "tokens_per_second", "peak_bytes",
  "gradient_norm",
];

export class Metrics {
  constructor(name) {
    this.name = name;
    this.next = 0;
    this.#empty();
  }

  #empty() {
    this.columns = Object.fromEntries(KEYS.map((key) => [key, []]));
    this.validation = { at: [], loss: [] }; // `at`: the steps' places in the columns
  }

  get length() {
    return this.columns.step.length;
  }

  // Reads what is new; says whether anything was. One reading at a time.
  read(signal) {
    this.reading ??= this.#read(signal).finally(() => {
      this.reading = null;
    });
    return this.reading;
  }

  async #read(signal) {
    const name = encodeURIComponent(this.name);
    const { next, restarted, steps } =
      await getJSON(`runs/${name}/metrics?after=${this.next}`, signal);
    if (restarted) this.#empty();
    this.next = next;
    for (const step of steps) {
      for (const key of KEYS) this.columns[key].push(step[key] ?? null);
      if (typeof step.validation_loss === "number") {
        this.validation.at.push(this.length - 1);
        this.validation.loss.push(step.validation_loss);
      }
    }
    return restarted || steps.length > 0;
  }

  // The loss as the mean over `steps` steps about each.
  smoothed(steps) {
    const { loss } = this.columns;
    const half = Math.floor(steps / 2);
    let [sum, count, from, to] = [0, 0, 0, 0]; // over the steps from `from` up to `to`
    const add = (value, sign) => {
      if (value === null) return;
      sum += sign * value;
      count += sign;
    };
    return loss.map((_, n) => {
      while (to < Math.min(loss.length, n + half + 1)) add(loss[to++], 1);
      while (from < n - half) add(loss[from++], -1);
      return count ? sum / count : null;
    });
  }

  // Validation losses over the steps, tokens or seconds that they were measured at.
  validationOver(key) {
    return this.validation.at.map((index) => this.columns[key][index]);
  }

  lastLosses() {
    const losses = this.columns.loss.filter((loss) => loss !== null);
    const tenth = losses.slice(-Math.max(1, Math.ceil(losses.length / 10)));
    const mean = tenth.reduce((total, loss) => total + loss, 0) / tenth.length;
    return { last: losses.at(-1), mean: losses.length ? mean : null };
  }
}
