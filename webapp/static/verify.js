// The verify page: a file may be dropped or pasted, its size is checked before it is sent, and its Content Credentials
// are read here, in the browser, where the reader is installed.

import { readCredentials } from "./credentials.js";

const form = document.querySelector("form[data-verify]");
const input = form.querySelector("input[type=file]");
const url = form.querySelector("input[type=url]");
const error = form.querySelector("[data-error]");
const busy = form.querySelector("[data-busy]");
const local = form.querySelector("[data-local]");
const hint = form.querySelector("[data-drop-hint]");

hint.hidden = false;
form.querySelector("[data-focus]")?.focus();

function tooLarge() {
  const file = input.files[0];
  return Boolean(file) && file.size > Number(form.dataset.limit);
}

function complain() {
  error.hidden = !tooLarge();
  error.textContent = tooLarge() ? "This file is larger than what is accepted here. Nothing was sent." : "";
}

let asked = 0;

async function look() {
  complain();
  const file = input.files[0];
  if (file) url.value = "";
  if (!local) return;
  local.hidden = !file;
  if (!file) return;
  const answer = local.querySelector("[data-local-answer]");
  const mine = ++asked;
  answer.replaceChildren(line("p", "Reading …"));
  const lines = await readCredentials(file, form.dataset.reader, form.dataset.anchors);
  if (mine !== asked) return; // another file was chosen meanwhile
  answer.replaceChildren(...lines.map(([tag, ...texts]) => line(tag, ...texts)));
}

// Texts of strangers become text nodes only, each in an element that keeps its direction to itself.
function line(tag, ...texts) {
  const element = document.createElement(tag);
  for (const text of texts) {
    const piece = document.createElement(text.foreign ? "bdi" : "span");
    piece.textContent = text.foreign ?? text;
    element.append(piece);
  }
  return element;
}

function take(files) {
  if (!files || !files.length) return false;
  const carried = new DataTransfer();
  carried.items.add(files[0]);
  input.files = carried.files;
  look();
  return true;
}

function takeAddress(text) {
  const first = (text || "").trim().split(/\s+/)[0];
  if (!/^https:\/\//i.test(first)) return false;
  url.value = first.slice(0, 2000);
  url.dispatchEvent(new Event("input"));
  url.focus();
  return true;
}

input.addEventListener("change", look);
url.addEventListener("input", () => {
  if (!url.value || !input.files.length) return;
  input.value = "";
  look();
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  input.classList.add("over");
});
for (const name of ["dragleave", "drop"]) document.addEventListener(name, () => input.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  if (take(event.dataTransfer.files)) input.focus();
  else takeAddress(event.dataTransfer.getData("text/uri-list") || event.dataTransfer.getData("text/plain"));
});
document.addEventListener("paste", (event) => {
  const inField = event.target instanceof HTMLInputElement && event.target !== input;
  if (take(event.clipboardData.files)) event.preventDefault();
  else if (!inField && takeAddress(event.clipboardData.getData("text/plain"))) event.preventDefault();
});
form.addEventListener("submit", (event) => {
  if (tooLarge()) {
    event.preventDefault();
    input.focus();
    return;
  }
  busy.textContent = url.value ? "Fetching it and looking at it." : "Sending it and looking at it. A long video can take a minute.";
});
window.addEventListener("pageshow", () => {
  busy.textContent = ""; // the page may come back from the browser's memory
});
