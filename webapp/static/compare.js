// Before and after in one picture, cut where the slider stands. The native range input brings keyboard and touch.

const compare = document.querySelector("[data-compare]");
const stage = compare.querySelector("[data-stage]");
const slider = compare.querySelector("input[type=range]");

function cut(value) {
  slider.value = value;
  compare.style.setProperty("--cut", `${value}%`);
  slider.setAttribute("aria-valuetext", `${value} percent before, ${100 - value} percent after`);
}

slider.addEventListener("input", () => cut(Number(slider.value)));
for (const button of compare.querySelectorAll("[data-cut]")) {
  button.addEventListener("click", () => cut(Number(button.dataset.cut)));
}
stage.addEventListener("pointerdown", (event) => {
  const box = stage.getBoundingClientRect();
  cut(Math.round((100 * (event.clientX - box.left)) / box.width));
});
compare.querySelector("[data-fallback]").hidden = true;
stage.hidden = false;
compare.querySelector("[data-controls]").hidden = false;
cut(50);
