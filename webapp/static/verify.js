// The verify page: checks the size first, says that it is working, and saves the report that is on the page.

const form = document.querySelector("form[data-verify]");
const input = form.querySelector("input[type=file]");
const place = form.querySelector("[data-error=file]");

function tooLarge() {
  const file = input.files[0];
  const limit = Number(form.dataset.videoLimit);
  return Boolean(file) && file.size > limit;
}

input.addEventListener("change", () => {
  place.hidden = !tooLarge();
  place.textContent = tooLarge() ? "This file is larger than what is accepted here." : "";
});
form.addEventListener("submit", (event) => {
  if (tooLarge()) {
    event.preventDefault();
    input.focus();
    return;
  }
  if (!event.submitter || event.submitter.name !== "download") form.querySelector("[data-busy]").hidden = false;
});

const verdict = document.querySelector("[data-focus]");
if (verdict) verdict.focus();

const report = document.getElementById("report");
const download = document.querySelector("[data-download-report]");
if (report && download) {
  download.hidden = false;
  download.querySelector("button").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([report.textContent], { type: "application/json" }));
    link.download = "imprimatur-verdict.json";
    link.click();
    URL.revokeObjectURL(link.href);
  });
}
