// All of the shop works without this script. It counts the seconds of a code down, and looks for news about a payment.
"use strict";

for (const left of document.querySelectorAll("[data-seconds]")) {
  const end = Date.now() + Number(left.dataset.seconds) * 1000;
  const tick = setInterval(() => {
    const seconds = Math.max(0, Math.ceil((end - Date.now()) / 1000));
    left.textContent = seconds + (seconds === 1 ? " second" : " seconds");
    if (seconds === 0) clearInterval(tick);
  }, 500);
}

for (const seen of document.querySelectorAll("[data-version]")) {
  const look = setInterval(async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(seen.dataset.page + "/version", { cache: "no-store" });
      if (!answer.ok || (await answer.text()) === seen.dataset.version) return;
    } catch {
      return; // the shop is away; the next look may find it
    }
    clearInterval(look);
    // A page that somebody is reading or typing in is left as it is.
    const busy = document.querySelector("details[open]") || [...document.querySelectorAll("input[name=amount]")].some((i) => i.value !== "");
    if (busy) document.querySelector(".news").hidden = false;
    else location.replace(seen.dataset.page);
  }, 2000);
}
