// A copy button beside each link. Where there is no clipboard, the link can still be selected.

for (const source of document.querySelectorAll("[data-copy-source]")) {
  source.addEventListener("focus", () => source.select());
}
if (navigator.clipboard) {
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(source.value);
        button.textContent = "Copied";
      } catch {
        source.focus();
        source.select();
      }
    });
  }
}
