// Reads Content Credentials in the browser with @contentauth/c2pa-web's own worker and WebAssembly, unchanged, and says
// what they say. It speaks to the worker directly: the package's front demands https or a blob: worker, which this
// page's policy does not allow. Nothing is fetched but the reader itself and the root certificates trusted here.

const WASM_HASH = "sha512-NsX4t/kdoAAEqcVRXG5oYJKSHNKo+sgsxrb9Y4vJnpMhgkMP7hoAa8G1draflgtUXI7hjMDd9dPNkKVfUynv+A==";
const LARGEST = 500 * 1024 * 1024;
const SECONDS = 60;
const CONSENT = "io.imprimatur.consent";
const TYPES = {
  jpg: "image/jpeg", jpeg: "image/jpeg", png: "image/png", webp: "image/webp", gif: "image/gif", avif: "image/avif",
  heic: "image/heic", heif: "image/heif", tif: "image/tiff", tiff: "image/tiff", mp4: "video/mp4", m4v: "video/mp4",
  mov: "video/quicktime", avi: "video/avi",
};
const AI = {
  trainedAlgorithmicMedia: "The credential says that it was made with an AI model.",
  compositeWithTrainedAlgorithmicMedia: "The credential says that parts of it were made or edited with an AI model.",
  compositeSynthetic: "The credential says that parts of it were made or edited with an AI model.",
};

let started = null;

// The worker's messages: {method, args, id, channelName} there, {result | error, id, channelName} back.
async function start(base, anchorsUrl) {
  const [wasm, anchors] = await Promise.all([
    WebAssembly.compileStreaming(fetch(`${base}c2pa_bg.wasm`, { integrity: WASM_HASH })),
    fetch(anchorsUrl).then((answer) => (answer.ok ? answer.text() : "")),
  ]);
  const worker = new Worker(`${base}c2pa_worker.js`, { type: "module" });
  const waiting = new Map();
  let count = 0;
  worker.addEventListener("message", ({ data }) => {
    const one = waiting.get(data.id);
    if (!one) return;
    waiting.delete(data.id);
    if (data.error) one.reject(data.error);
    else one.resolve(data.result);
  });
  worker.addEventListener("error", (event) => {
    for (const one of waiting.values()) one.reject(new Error(event.message));
    waiting.clear();
    started = null;
  });
  const call = (method, ...args) =>
    new Promise((resolve, reject) => {
      const id = `call-${++count}`;
      waiting.set(id, { resolve, reject });
      worker.postMessage({ method, args, id, channelName: "default" });
      setTimeout(() => {
        if (!waiting.delete(id)) return;
        worker.terminate();
        started = null;
        reject(new Error("time"));
      }, SECONDS * 1000);
    });
  const settings = JSON.stringify({
    verify: { remote_manifest_fetch: false, ocsp_fetch: false },
    core: { allowed_network_hosts: [], decode_identity_assertions: false },
    trust: {
      trust_config: "1.3.6.1.5.5.7.3.4\n1.3.6.1.5.5.7.3.36\n1.3.6.1.4.1.62558.2.1",
      ...(anchors ? { trust_anchors: anchors } : {}),
    },
  });
  await call("initWorker", wasm, settings);
  return { call, settings };
}

// Lines to show, each [tag, text or {foreign: text}, …].
export async function readCredentials(file, base, anchorsUrl) {
  const type = file.type || TYPES[file.name.split(".").pop().toLowerCase()] || "";
  if (file.size > LARGEST) return [["p", "The file is too large to be read here. Upload it to have it looked at."]];
  try {
    started ??= start(base, anchorsUrl);
    const { call, settings } = await started;
    const reader = await call("reader_fromBlob", type, file, settings);
    try {
      return describe(await call("reader_manifestStore", reader));
    } finally {
      await call("reader_free", reader);
    }
  } catch (problem) {
    const text = String(problem?.message ?? problem);
    if (/JumbfNotFound|ManifestNotFound/.test(text)) {
      return [
        ["p", "No Content Credentials in this file."],
        ["p", "That does not mean that it is real: they may have been removed. Our hidden mark may still be there; upload the file to have it looked for."],
      ];
    }
    if (/remote/i.test(text)) {
      return [["p", "This file points to Content Credentials that are kept elsewhere. They were not fetched."]];
    }
    if (/UnsupportedType|NotSupported/i.test(text)) {
      return [["p", "This kind of file cannot be read in the browser. Upload it to have it looked at."]];
    }
    if (!started || /time|fetch|Failed|network/i.test(text)) started = null;
    return [["p", "The Content Credentials of this file could not be read here. Upload it to have it looked at."]];
  }
}

// Text of a stranger made inert: no control, format or direction characters, at most 200 of the others.
function clean(text) {
  return typeof text === "string" ? text.replace(/\p{C}/gu, "").slice(0, 200) : "";
}

// The lines for what the reader found; nothing of it is trusted to be what it should.
export function describe(store) {
  const active = store.manifests?.[store.active_manifest] ?? {};
  const state = store.validation_state;
  const issuer = { foreign: clean(active.signature_info?.issuer) || "an issuer without a name" };
  const lines = [];
  const assertions = Array.isArray(active.assertions) ? active.assertions : [];
  if (state === "Trusted") {
    lines.push(["p", "Content Credentials issued by ", issuer, ". The file is as it was signed."]);
    if (assertions.some((one) => one.label === CONSENT)) {
      lines.push(["p", "They name this service. Whether the permission still holds, only our records say: upload the file."]);
    }
  } else if (state === "Valid") {
    lines.push(["p", "Signed, but we do not know the signer. The signature names ", issuer, ". The file is as it was signed."]);
  } else {
    lines.push(["p", "Content Credential unavailable or invalid."]);
    lines.push(["p", "The file was changed after it was signed, or the credential was damaged or moved."]);
    return lines;
  }
  const kinds = assertions
    .filter((one) => String(one.label).startsWith("c2pa.actions"))
    .flatMap((one) => one.data?.actions ?? [])
    .map((one) => String(one.digitalSourceType ?? "").split("/").pop());
  const kind = Object.keys(AI).find((one) => kinds.includes(one));
  lines.push(["p", kind ? AI[kind] : "The credential does not mention AI. That does not mean that none was used."]);
  const info = active.claim_generator_info?.[0];
  if (info?.name) lines.push(["p", "Made with ", { foreign: clean(`${info.name} ${info.version ?? ""}`) }, "."]);
  const time = Date.parse(active.signature_info?.time ?? "");
  const codes = (store.validation_results?.activeManifest?.success ?? []).map((one) => one.code);
  if (!Number.isNaN(time) && codes.includes("timeStamp.trusted")) {
    const day = new Date(time).toLocaleDateString("en-GB", { dateStyle: "long", timeZone: "UTC" });
    lines.push(["p", `Issued on ${day}, as stamped by a time-stamp authority.`]);
  }
  return lines;
}
