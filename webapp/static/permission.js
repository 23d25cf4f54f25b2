// Of each pair, shows only the half of the form that belongs to the choice made. Without this module both are shown.

for (const section of document.querySelectorAll("[data-cover]")) {
  const radios = section.querySelectorAll("input[name^=cover]");
  const show = () => {
    const chosen = [...radios].find((radio) => radio.checked);
    for (const part of section.querySelectorAll("[data-cover-part]")) {
      part.hidden = part.dataset.coverPart !== (chosen ? chosen.value : "ask");
    }
  };
  for (const radio of radios) radio.addEventListener("change", show);
  show();
}
const errors = document.querySelector("[data-focus]");
if (errors) errors.focus();
