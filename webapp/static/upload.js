// Sends the upload form with a progress bar, and says what is wrong with a file before it is sent.
// Without this module the form works as it is.

const form = document.querySelector("form[data-upload]");
const bar = form.querySelector("#upload-progress");
const status = form.querySelector("[data-upload-status]");
const failure = form.querySelector("[data-upload-failure]");
const button = form.querySelector("button[type=submit]");
const VIDEO = /\.(mp4|mov|m4v|mkv|webm)$/i;

function mebibytes(bytes) {
  return `${Math.round(bytes / 1048576)} MiB`;
}

function wrong(file) {
  const video = file.type.startsWith("video/") || VIDEO.test(file.name);
  const limit = Number(video ? form.dataset.videoLimit : form.dataset.photoLimit);
  if (file.size === 0) return `${file.name} is empty. Choose it again.`;
  if (file.size > limit) return `${file.name} is ${mebibytes(file.size)}; at most ${mebibytes(limit)} are accepted.`;
  return "";
}

function check(input) {
  const place = form.querySelector(`[data-error="${input.name}"]`);
  let message = [...input.files].map(wrong).find(Boolean) || "";
  const most = Number(form.dataset.most);
  if (!message && input.name === "sources" && input.files.length > most) message = `Choose at most ${most} photos.`;
  if (place) {
    place.textContent = message;
    place.hidden = !message;
  }
  input.toggleAttribute("aria-invalid", false);
  if (message) input.setAttribute("aria-invalid", "true");
  else input.removeAttribute("aria-invalid");
  return !message;
}

function fail(message) {
  failure.textContent = message;
  failure.hidden = false;
  form.querySelector("[data-upload-progress]").hidden = true;
  button.disabled = false;
}

for (const input of form.querySelectorAll("input[type=file]")) {
  input.addEventListener("change", () => check(input));
  input.addEventListener("dragover", () => input.classList.add("over"));
  for (const name of ["dragleave", "drop"]) input.addEventListener(name, () => input.classList.remove("over"));
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  failure.hidden = true;
  const inputs = [...form.querySelectorAll("input[type=file]")];
  const bad = inputs.filter((input) => !check(input));
  if (bad.length) return bad[0].focus();
  const request = new XMLHttpRequest();
  request.open("POST", form.action || window.location.href);
  request.setRequestHeader("Accept", "application/json");
  request.responseType = "json";
  request.upload.addEventListener("progress", (step) => {
    if (!step.lengthComputable) return;
    bar.value = (100 * step.loaded) / step.total;
    status.textContent =
      step.loaded < step.total
        ? `${mebibytes(step.loaded)} of ${mebibytes(step.total)}`
        : "Sent. The files are being encrypted and stored.";
  });
  request.addEventListener("load", () => {
    if (request.status === 200 && request.response && request.response.location) {
      window.location.assign(request.response.location);
    } else if (request.status === 413) {
      fail("The files are larger than allowed. Nothing was kept; choose smaller ones.");
    } else {
      fail("The upload was not accepted. Reload the page and try again; your files are still on your device.");
    }
  });
  request.addEventListener("error", () => fail("The connection was lost. Nothing was kept; try again."));
  form.querySelector("[data-upload-progress]").hidden = false;
  button.disabled = true;
  request.send(new FormData(form));
});
