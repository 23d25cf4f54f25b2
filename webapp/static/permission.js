// Shows only the half of the form that belongs to the choice made. Without this module both halves are shown.

const parts = document.querySelectorAll("[data-cover-part]");

function show() {
  const chosen = document.querySelector("input[name=cover]:checked");
  for (const part of parts) part.hidden = part.dataset.coverPart !== (chosen ? chosen.value : "ask");
}

for (const radio of document.querySelectorAll("input[name=cover]")) radio.addEventListener("change", show);
show();
const errors = document.querySelector("[data-focus]");
if (errors) errors.focus();
