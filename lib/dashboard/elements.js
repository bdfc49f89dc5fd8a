// Finds the elements of the page by id, and makes new ones. Text is only ever set as text, never as markup.

/** @param {string} id */
export function element(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no element #${id}`);
  return found;
}

/** @param {string} id */
export function input(id) {
  return /** @type {HTMLInputElement} */ (element(id));
}

/** @param {string} id */
export function selection(id) {
  return /** @type {HTMLSelectElement} */ (element(id));
}

/** @param {string} id */
export function button(id) {
  return /** @type {HTMLButtonElement} */ (element(id));
}

/** @param {string} id */
export function form(id) {
  return /** @type {HTMLFormElement} */ (element(id));
}

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {string} [className]
 * @param {string} [text]
 */
export function make(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/**
 * @param {'svg' | 'path' | 'text' | 'rect' | 'g'} tag
 * @param {Record<string, string>} attributes
 */
export function makeSvg(tag, attributes) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
