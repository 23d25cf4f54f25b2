// The camera step: asks the server for three movements, then the browser for the camera, records once, sends once.
//
// The order matters: the movements are drawn before the camera opens. The clip stays in memory until the server has
// answered; it is sent again by itself when the connection comes back, and the server takes it once.

const LEAD = 1.2; // seconds of looking straight ahead, so that every movement has a beginning
const EACH = 2.1; // seconds for one movement
const TAIL = 0.5;
const READY = 3; // seconds between the tap and the recording
const BITS = 1500000;
const RETRY_FIRST = 1000;
const RETRY_MOST = 15000;

const root = document.querySelector("[data-camera]");
const part = (name) => root.querySelector(`[data-${name}]`);
const live = part("live");
const say = part("say");
const lens = part("lens");
const sign = part("sign");
const bar = part("progress");
const count = part("count");
const countLine = part("count-line");
const left = part("left");
const problem = part("problem");
const startButton = part("start");
const recordButton = part("record");
const sendButton = part("send");
const SIGNS = { turn_left: "←", turn_right: "→", look_up: "↑", open_mouth: "◯", blink: "‿ ‿", smile: "⌣" };

let stream = null;
let challenge = null;
let clip = null;
let sending = false;

function word(name) {
  const found = root.querySelector(`[data-word="${name}"]`);
  return found ? found.textContent : "";
}

function speak(text) {
  say.textContent = text;
}

function show(element, on) {
  element.hidden = !on;
}

const wait = (seconds) => new Promise((resolve) => window.setTimeout(resolve, seconds * 1000));

// What is not about the recording stays away while it runs: a slip of the finger must not end everything.
function rest(on) {
  for (const element of document.querySelectorAll("[data-rest]")) show(element, on);
}

function closeCamera() {
  if (stream) for (const track of stream.getTracks()) track.stop();
  stream = null;
  live.srcObject = null;
  show(lens, false);
}

function fail(sentence) {
  closeCamera();
  rest(true);
  speak("");
  problem.textContent = sentence;
  show(problem, true);
  show(recordButton, false);
  show(countLine, false);
  show(bar, false);
  startButton.textContent = word("retry");
  startButton.disabled = false;
  show(startButton, true);
  startButton.focus();
}

// What the browser's own error means to the person (Media Capture and Streams, section 10.2).
function reason(error) {
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return word("camera-denied");
    case "NotFoundError":
    case "OverconstrainedError":
      return word("camera-missing");
    case "NotReadableError":
    case "AbortError":
      return word("camera-in_use");
    default:
      return word("camera-other");
  }
}

function recorderKind() {
  const kinds = ["video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm", "video/mp4"];
  return kinds.find((kind) => window.MediaRecorder.isTypeSupported(kind));
}

async function post(address, form) {
  const answer = await fetch(address, { method: "POST", body: form, credentials: "same-origin" });
  const known = (answer.headers.get("Content-Type") || "").includes("json");
  return { ok: answer.ok, status: answer.status, body: known ? await answer.json() : {} };
}

function withLanguage() {
  const form = new FormData();
  form.append("lang", root.dataset.lang);
  return form;
}

async function start() {
  show(problem, false);
  if (!window.isSecureContext) return fail(word("camera-insecure"));
  if (!navigator.mediaDevices || !window.MediaRecorder || !recorderKind()) return fail(word("camera-unsupported"));
  startButton.disabled = true;
  speak(word("opening"));
  let issued;
  try {
    issued = await post(root.dataset.challenge, withLanguage());
  } catch {
    return fail(word("again"));
  }
  if (!issued.ok) {
    if (issued.body.code === "challenge_pending" || !issued.body.code) return window.location.reload();
    return fail(issued.body.sentence);
  }
  challenge = issued.body;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "user", width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } },
      audio: false,
    });
  } catch (error) {
    return fail(reason(error));
  }
  live.srcObject = stream;
  show(lens, true);
  try {
    await live.play();
  } catch {
    return fail(word("camera-other"));
  }
  for (const track of stream.getTracks()) track.addEventListener("ended", () => stream && fail(word("camera-stopped")));
  show(startButton, false);
  startButton.disabled = false;
  show(recordButton, true);
  speak(word("ready"));
  recordButton.focus({ preventScroll: true });
  lens.scrollIntoView({ block: "start" });
}

// The seconds that are left, in words that change each second; a screen reader hears the movements only.
function tick(ends) {
  const seconds = Math.max(0, Math.ceil((ends - performance.now()) / 1000));
  left.textContent = `${seconds} ${word("seconds")}`;
}

async function record() {
  show(recordButton, false);
  show(countLine, true);
  rest(false);
  const kind = recorderKind();
  const chunks = [];
  let broken = false;
  const recorder = new MediaRecorder(stream, { mimeType: kind, videoBitsPerSecond: BITS });
  recorder.addEventListener("dataavailable", (event) => event.data.size && chunks.push(event.data));
  recorder.addEventListener("error", () => (broken = true));
  const stopped = new Promise((resolve) => recorder.addEventListener("stop", resolve));
  const hidden = () => document.hidden && (broken = true); // a phone stops the camera of a page nobody sees
  document.addEventListener("visibilitychange", hidden);

  speak(word("get_ready"));
  for (let second = READY; second > 0; second -= 1) {
    sign.textContent = String(second);
    await wait(1);
  }
  if (!stream || broken) return fail(word("camera-stopped"));
  recorder.start(500);
  const total = LEAD + EACH * challenge.actions.length + TAIL;
  const began = performance.now();
  const ends = began + total * 1000;
  show(bar, true);
  const clock = window.setInterval(() => {
    bar.value = Math.min(100, (100 * (performance.now() - began)) / (total * 1000));
    tick(ends);
  }, 200);
  tick(ends);
  sign.textContent = "•";
  speak(word("straight"));
  await wait(LEAD);
  for (const [index, action] of challenge.actions.entries()) {
    if (broken || !stream) break;
    count.textContent = `${word("count")} ${index + 1} / ${challenge.actions.length}`;
    sign.textContent = SIGNS[action] || "";
    speak(word(action));
    await wait(EACH);
  }
  sign.textContent = "";
  await wait(TAIL);
  window.clearInterval(clock);
  document.removeEventListener("visibilitychange", hidden);
  if (!stream || broken || recorder.state === "inactive") return fail(word("camera-stopped"));
  recorder.stop();
  await stopped;
  const found = new Blob(chunks, { type: kind.split(";")[0] });
  closeCamera();
  show(countLine, false);
  if (!found.size) return fail(word("camera-stopped"));
  clip = found;
  bar.removeAttribute("value");
  speak(word("done"));
  await send();
}

// Until the server has answered. The same bytes for the same movements are taken once, however often they arrive.
async function send() {
  if (sending || !clip) return;
  sending = true;
  show(problem, false);
  show(sendButton, false);
  show(bar, true);
  let pause = RETRY_FIRST;
  while (clip) {
    const form = withLanguage();
    form.append("challenge", challenge.id);
    form.append("clip", clip, clip.type.includes("mp4") ? "clip.mp4" : "clip.webm");
    let answer = null;
    try {
      answer = await post(root.dataset.clip, form);
    } catch {
      answer = null;
    }
    if (answer && answer.ok) {
      clip = null;
      speak(word("sent"));
      return window.location.reload();
    }
    if (answer && answer.status < 500 && answer.body.code) {
      clip = null;
      sending = false;
      const settled = ["challenge_used", "challenge_pending", "consent_not_open"];
      if (settled.includes(answer.body.code)) return window.location.reload();
      return fail(answer.body.sentence);
    }
    speak(word("again"));
    show(sendButton, true);
    await Promise.race([wait(pause / 1000), new Promise((go) => sendButton.addEventListener("click", go, { once: true }))]);
    show(sendButton, false);
    speak(word("sending"));
    pause = Math.min(pause * 2, RETRY_MOST);
  }
}

window.addEventListener("beforeunload", (event) => {
  if (clip) event.preventDefault(); // a clip that was not sent yet is lost with the page
});
window.addEventListener("pagehide", closeCamera);
startButton.addEventListener("click", start);
recordButton.addEventListener("click", record);
// Also where a module does not load, what to do stands on the page.
show(document.querySelector("[data-no-script]"), false);
show(root, true);
