// Asks for the page again every few seconds, and puts into place what has changed. The server has rendered and escaped
// it; what is parsed here runs no script, neither now nor when it is put into this page.
"use strict";

const PERIOD_MS = 5000;
const PATIENCE_MS = 4000;
// Two answers may be missed before what is shown is called old.
const STALE_AFTER_MS = 3 * PERIOD_MS;

const main = document.getElementById("main");
const pulse = document.getElementById("pulse");
const trouble = document.getElementById("trouble");
const pause = document.getElementById("pause");

let answeredMs = performance.now();
let isPaused = false;
let isAsking = false;
let failure = "";
let timer = 0;

async function ask() {
  if (isAsking) {
    return;
  }
  clearTimeout(timer);
  isAsking = true;
  try {
    const answer = await fetch("./", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!answer.ok) {
      throw new Error(`the endpoint says ${answer.status}`);
    }
    take(new DOMParser().parseFromString(await answer.text(), "text/html"));
    answeredMs = performance.now();
    failure = "";
  } catch (error) {
    failure = error instanceof TypeError || error.name === "TimeoutError" ? "the endpoint does not answer" : error.message;
  }
  isAsking = false;
  tell();
  timer = setTimeout(askIfWanted, PERIOD_MS);
}

function askIfWanted() {
  // Somebody who selects text wants to copy it; a page that nobody sees need not ask.
  if (!isPaused && !document.hidden && !isSelecting()) {
    ask();
  } else {
    timer = setTimeout(askIfWanted, PERIOD_MS);
  }
}

function isSelecting() {
  const selection = getSelection();
  return !selection.isCollapsed && main.contains(selection.anchorNode);
}

function take(page) {
  const fresh = page.getElementById("main");
  if (!fresh) {
    throw new Error("the endpoint answers with another page");
  }
  main.dataset.tone = fresh.dataset.tone;
  for (const old of document.querySelectorAll("[data-fresh], #tables > section")) {
    const other = page.getElementById(old.id);
    if (other && !other.isEqualNode(old)) {
      old.replaceWith(document.importNode(other, true));
    }
  }
}

function tell() {
  const oldMs = performance.now() - answeredMs;
  const isStale = !isPaused && !document.hidden && oldMs > STALE_AFTER_MS;
  document.body.classList.toggle("stale", isStale || failure !== "");
  pulse.dataset.state = isPaused ? "paused" : failure || isStale ? "stale" : "live";
  pulse.textContent = pulse.dataset.state === "stale" ? `${Math.round(oldMs / 1000)} s old` : pulse.dataset.state;
  // Announced, so it changes only when the state does.
  const sentence = failure ? `No longer current: ${failure}. What is shown is the last answer.` : "";
  if (trouble.textContent !== sentence) {
    trouble.textContent = sentence;
  }
}

pause.addEventListener("click", () => {
  isPaused = !isPaused;
  pause.textContent = isPaused ? "Resume" : "Pause";
  tell();
  if (!isPaused) {
    ask();
  }
});
document.addEventListener("visibilitychange", askIfWanted);
pulse.hidden = pause.hidden = false;
setInterval(tell, 1000);
timer = setTimeout(askIfWanted, PERIOD_MS);
tell();
