// Elements, and numbers in words. Texts enter the page through `textContent` alone.

export const $ = (selector, root = document) => root.querySelector(selector);

// make("p.note", {hidden: true}, "text", child, …): attributes with a capital or a dash are set as
// attributes, functions as listeners, the others as properties.
export function make(kind, properties = {}, ...children) {
  const [name, ...classes] = kind.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  set(element, properties);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function set(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name === "role" || name.includes("-")) element.setAttribute(name, value);
    else if (element[name] !== value) element[name] = value;
  }
  return element;
}

// Sets a text only where it changed, so that nothing is laid out anew or read out again.
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Says something to those who hear the page.
export function say(text) {
  write($("#said"), text);
}

const digits = (n, options) => n.toLocaleString("en", options);

// A number as short as it can be read: four significant digits, and 5e-5 where it is small.
export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (Number.isInteger(value)) return digits(value);
  const size = Math.abs(value);
  if (size < 1e-3) return value.toExponential(2).replace(/\.?0+e/, "e");
  return digits(value, { maximumSignificantDigits: 4 });
}

export function bytes(value) {
  if (!value) return "–";
  const [unit, name] = value >= 1e9 ? [1e9, "GB"] : value >= 1e6 ? [1e6, "MB"] : [1e3, "kB"];
  return `${digits(value / unit, { maximumSignificantDigits: 3 })} ${name}`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 10) return `${minutes} min ${whole % 60} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48
    ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export function percent(probability) {
  const value = probability * 100;
  if (value > 0 && value < 0.01) return "< 0.01%";
  return `${value.toFixed(value < 1 ? 2 : 1)}%`;
}

export const date = (seconds) =>
  new Date(seconds * 1000).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });

export async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = make("textarea.hidden", { value: text }); // a page over plain HTTP has no clipboard
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("cannot copy");
}

// Makes a list of buttons with role "tab" go by arrow keys; `chosen(name)` is told of a choice.
export function tabList(names, label, chosen) {
  const tabs = names.map(([name, text]) =>
    make("button", { type: "button", role: "tab", id: `tab-${name}`,
      "aria-controls": "tab-panel", click: () => chosen(name) }, text));
  const list = make("div.tabs", { role: "tablist", "aria-label": label }, ...tabs);
  list.addEventListener("keydown", (event) => {
    const at = tabs.indexOf(document.activeElement);
    const steps = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 };
    if (at < 0 || !(event.key in steps)) return;
    event.preventDefault();
    const tab = tabs[(steps[event.key] + tabs.length) % tabs.length];
    tab.focus();
    tab.click();
  });
  list.choose = (name) => {
    for (const tab of tabs) {
      const is = tab.id === `tab-${name}`;
      set(tab, { "aria-selected": String(is), tabIndex: is ? 0 : -1 });
    }
  };
  return list;
}
