// What went wrong, said where it is seen, with the place and with what to do; and the question for a key.

import { Problem } from "./api.js";
import { html } from "./dom.js";

/** The notice at the top of the page. */
export class Notice {
  #element;
  #page;
  #asking = null;

  constructor(element, page) {
    this.#element = element;
    this.#page = page;
  }

  /** Do something; a problem on the way is shown, success takes an older one away. */
  async guard(action) {
    try {
      await action();
      this.clear();
    } catch (error) {
      this.show(error);
    }
  }

  /** Take away what is said. */
  clear() {
    if (!this.#asking) this.#element.replaceChildren();
  }

  /** @param {Error} error */
  show(error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Problem)) console.error(error);
    const places = (error.errors ?? []).map(({ loc, msg }) => html("li", {}, html("code", {}, place(loc)), ` ${msg}`));
    const title = error.status ? `${error.title} (${error.status})` : (error.title ?? "Something went wrong in this page");
    this.#write(html("strong", {}, title), places.length > 0 ? html("ul", {}, ...places) : html("p", {}, error.message));
  }

  /** Ask for the server's key. @returns {Promise<void>} fulfilled when one was given */
  askForKey() {
    this.#asking ??= new Promise((resolve) => {
      const field = html("input", { type: "password", id: "key", autocomplete: "off", required: true });
      const given = (event) => {
        event.preventDefault();
        this.#page.api.key = field.value;
        this.#asking = null;
        this.clear();
        resolve();
      };
      const refused = this.#page.api.key ? "The server does not know this key." : "This server answers only those who have one of its keys.";
      this.#write(html("form", { class: "key", onsubmit: given }, html("label", { for: "key" }, `${refused} Key:`), field, html("button", {}, "Use it")));
      field.focus();
    });
    return this.#asking;
  }

  #write(...children) {
    this.#element.replaceChildren(html("div", { class: "notice" }, ...children));
    this.#element.scrollIntoView({ block: "nearest" });
  }
}

/** `["body", "inputs", 3, 17]` as people write it. */
function place(loc) {
  return loc.slice(1).reduce((path, part) => path + (typeof part === "number" ? `[${part}]` : path ? `.${part}` : part), "") || loc[0];
}
