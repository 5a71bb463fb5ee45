// A text made of tokens that can be pointed at, by mouse, finger or keys, to see more of each.

import { $, make } from "./dom.js";

const box = $("#details");
let shownFor = null;
let hiding = 0;

// Shows `content` at an element until the pointer or the focus leaves it.
function show(element, content) {
  clearTimeout(hiding);
  if (shownFor !== element) shownFor?.removeAttribute("aria-describedby");
  shownFor = element;
  element.setAttribute("aria-describedby", box.id);
  box.replaceChildren(content);
  box.hidden = false;
  const at = element.getClientRects()[0] ?? element.getBoundingClientRect();
  const { width, height } = box.getBoundingClientRect();
  const room = document.documentElement.clientWidth;
  const above = at.top - height - 6;
  box.style.left = `${Math.max(8, Math.min(at.left, room - width - 8))}px`;
  box.style.top = `${above > 8 ? above : at.bottom + 6}px`;
}

export function hideDetails() {
  clearTimeout(hiding);
  shownFor?.removeAttribute("aria-describedby");
  shownFor = null;
  box.hidden = true;
}

const hideSoon = () => {
  clearTimeout(hiding);
  hiding = setTimeout(hideDetails, 200);
};
box.addEventListener("pointerenter", () => clearTimeout(hiding));
box.addEventListener("pointerleave", hideSoon);
document.addEventListener("scroll", () => shownFor && hideDetails(), true);

export class TokenText {
  // `describe(data)` makes what is shown of a token.
  constructor(describe, properties = {}) {
    this.element = make("div.tokens", properties);
    this.data = new WeakMap();
    this.describe = describe;
    this.stop = null; // the token that Tab comes to
    const of = (event) => event.target.closest?.(".token");
    const open = (event) => {
      const token = of(event);
      if (token) this.#show(token);
    };
    this.element.addEventListener("pointerover", open);
    this.element.addEventListener("click", open);
    this.element.addEventListener("pointerout", (event) => {
      if (event.pointerType === "mouse") hideSoon();
    });
    this.element.addEventListener("focusin", (event) => {
      const token = of(event);
      if (!token) return;
      if (this.stop && this.stop !== token) this.stop.tabIndex = -1;
      token.tabIndex = 0;
      this.stop = token;
      this.#show(token);
    });
    this.element.addEventListener("focusout", hideDetails);
    this.element.addEventListener("keydown", (event) => this.#go(event));
  }

  text(text) {
    const last = this.element.lastChild;
    if (last?.nodeType === Node.TEXT_NODE) last.appendData(text);
    else this.element.append(text);
  }

  // `kind` is a class that marks the token; without one it is plain, but can be pointed at.
  token(text, data, kind = "") {
    const token = make(kind ? "mark" : "span", { className: `token ${kind}`.trim() }, text);
    this.data.set(token, data);
    // Tab comes to the first marked token, or to the first of all.
    if (!this.stop || (kind && this.stop.localName === "span" && !this.stop.matches(":focus"))) {
      this.stop?.removeAttribute("tabindex");
      this.stop = token;
    }
    token.tabIndex = this.stop === token ? 0 : -1;
    this.element.append(token);
  }

  clear() {
    this.element.replaceChildren();
    this.stop = null;
  }

  #show(token) {
    if (this.data.has(token)) show(token, this.describe(this.data.get(token)));
  }

  #go(event) {
    const marked = event.key === "ArrowDown" || event.key === "ArrowUp";
    const tokens = [...this.element.querySelectorAll(marked ? "mark.token" : ".token")];
    const here = document.activeElement;
    const forward = event.key === "ArrowRight" || event.key === "ArrowDown";
    const follows = (token) =>
      here.compareDocumentPosition(token) & Node.DOCUMENT_POSITION_FOLLOWING;
    const precedes = (token) =>
      here.compareDocumentPosition(token) & Node.DOCUMENT_POSITION_PRECEDING;
    let next;
    if (event.key === "Home") next = tokens[0];
    else if (event.key === "End") next = tokens.at(-1);
    else if (event.key === "Escape") return hideDetails();
    else if (!event.key.startsWith("Arrow")) return;
    else next = forward ? tokens.find(follows) : tokens.findLast(precedes);
    event.preventDefault();
    next?.focus();
  }
}
