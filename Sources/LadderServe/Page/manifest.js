// A run's settings, as its manifest has them, in words.

import { date, make, number } from "./dom.js";

const GROUPS = [
  ["Method", ["configuration", "method"]], ["Training", ["configuration"]],
  ["Model", ["backbone"]], ["Data and engine", ["identity"]], ["Run", []],
];

// "learningRate" and "learning_rate" as "Learning rate".
function words(path) {
  const text = path.join(" ").replaceAll(/([a-z\d])([A-Z])/g, "$1 $2").replaceAll("_", " ").trim();
  return text.charAt(0).toUpperCase() + text.slice(1).toLowerCase();
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

function worded(value, path) {
  if (value === null) return "none";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (path.at(-1) === "began") return date(value);
  if (typeof value === "number") return number(value);
  if (Array.isArray(value)) return value.map((each) => worded(each, [])).join(", ") || "none";
  if (isObject(value)) return JSON.stringify(value);
  return String(value);
}

// The leaves under `value` as [path, text]. A choice without values is written {"linear": {}}, and
// one with values {"every": {"_0": 4}}.
function* leaves(value, path = []) {
  if (!isObject(value)) {
    yield [path, worded(value, path)];
    return;
  }
  const keys = Object.keys(value);
  if (keys.length === 1 && isObject(value[keys[0]]) && !Object.keys(value[keys[0]]).length) {
    yield [path, words(keys).toLowerCase()];
    return;
  }
  for (const key of keys) yield* leaves(value[key], key === "_0" ? path : [...path, key]);
}

// [{group, label, text}] of a manifest, in the groups' order.
export function settingsOf(manifest) {
  const list = [...leaves(manifest)].map(([path, text]) => {
    const place = GROUPS.findIndex(([, start]) => start.every((key, n) => path[n] === key));
    const [group, start] = GROUPS[place];
    let rest = path.slice(start.length);
    if (group === "Method" && rest.length > 1) rest = rest.slice(1); // the method's own name
    return { place, group, label: words(rest) || group, text };
  });
  return list.sort((a, b) => a.place - b.place);
}

export function settingsTables(manifest) {
  const all = settingsOf(manifest);
  const groups = GROUPS.map(([name]) => [name, all.filter((each) => each.group === name)]);
  return make("div.settings", {}, ...groups.filter(([, list]) => list.length).map(([name, list]) =>
    make("section", {}, make("h3", {}, name),
      make("dl", {}, ...list.map(({ label, text }) =>
        make("div", {}, make("dt", {}, label), make("dd", {}, text)))))));
}

// What differs between manifests: [{label, texts}], and how many settings are the same.
export function differences(manifests) {
  const maps = manifests.map((manifest) =>
    new Map(settingsOf(manifest).map(({ group, label, text }) => [`${group}: ${label}`, text])));
  const labels = [...new Set(maps.flatMap((map) => [...map.keys()]))];
  const rows = labels.map((label) => ({ label, texts: maps.map((map) => map.get(label) ?? "–") }));
  const differing = rows.filter(({ texts }) => texts.some((text) => text !== texts[0]));
  return { differing, same: rows.length - differing.length };
}
