// What pages can do more with than without: copy a text, and notice a host's first event. All else needs none of this.
"use strict";

for (const button of document.querySelectorAll("button[data-copy]")) {
  const text = document.getElementById(button.dataset.copy);
  button.hidden = false;
  button.addEventListener("click", async () => {
    const before = button.textContent;
    try {
      await navigator.clipboard.writeText(text.value);
      button.textContent = "Copied";
    } catch {
      text.select();
      button.textContent = "Selected: copy it by the keyboard";
    }
    setTimeout(() => { button.textContent = before; }, 3000);
  });
}

const OFTEN_MS = 3_000, SELDOM_MS = 15_000, AT_FIRST_MS = 3 * 60_000, LONGEST_MS = 30 * 60_000;

// Looks for a host's first event, often at first, until it is there or half an hour is over.
function wait(place, began) {
  const told = document.querySelector("[data-looking]"), waited = Date.now() - began;
  const over = place.querySelector("[data-done]") !== null || waited > LONGEST_MS;
  told.hidden = over;
  if (over) return;
  setTimeout(async () => {
    try {
      const answer = await fetch(place.dataset.wait, { redirect: "error" });
      const text = await answer.text();
      if (answer.ok && text !== place.dataset.shown) {
        place.innerHTML = text;
        place.dataset.shown = text;
      }
    } catch {
      // The portal cannot be reached just now, or the login is over: what is shown stays, and "Look again" tells.
    }
    wait(place, began);
  }, waited < AT_FIRST_MS ? OFTEN_MS : SELDOM_MS);
}

for (const place of document.querySelectorAll("[data-wait]")) wait(place, Date.now());
