// Asks the server every second how far it is, and loads the page anew when there is something else to show.

const EVERY = 1000;
const SLOWEST = 15000;

const root = document.querySelector("[data-poll]");
const address = root.dataset.poll || window.location.href;
const spoken = document.querySelector("[data-spoken]");
let wait = EVERY;
const shown = document.querySelector("[data-progress]");
let lastTenth = shown ? Math.floor(shown.value / 10) : 0;

function show(state) {
  const bar = document.querySelector("[data-progress]");
  if (bar && state.percent !== undefined) {
    bar.value = state.percent;
    document.querySelector("[data-percent]").textContent = `${state.percent} %`;
    if (state.words) document.querySelector("[data-words]").textContent = state.words;
    // A screen reader hears every tenth, not every second.
    const tenth = Math.floor(state.percent / 10);
    if (spoken && tenth !== lastTenth) {
      spoken.textContent = `${state.percent} percent. ${state.words}`;
      lastTenth = tenth;
    }
  }
  for (const file of state.files || []) {
    const one = document.querySelector(`[data-file="${file.id}"]`);
    if (one) one.value = file.percent;
  }
}

async function ask() {
  if (!document.hidden) {
    try {
      const answer = await fetch(address, { headers: { Accept: "application/json" }, credentials: "same-origin" });
      if (answer.redirected || answer.status === 404) return window.location.reload();
      if (answer.ok) {
        const state = await answer.json();
        // A question that was just opened is not closed under the person's hand, unless there is nothing left to ask.
        const asked = document.querySelector(".ask-once[open]") && !state.final;
        if (state.page !== root.dataset.page && !asked) return window.location.reload();
        show(state);
        wait = EVERY;
      } else {
        wait = Math.min(wait * 2, SLOWEST);
      }
    } catch {
      wait = Math.min(wait * 2, SLOWEST); // The connection is gone; what was shown stays.
    }
  }
  window.setTimeout(ask, wait);
}

window.setTimeout(ask, EVERY);
