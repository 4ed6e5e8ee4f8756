// The menu of Sherpa's page, and a fresh page every few seconds, for its data stand in the page itself.
const RELOAD_MS = 10000;
const button = document.querySelector("#stop-trial-button");
const menu = document.querySelector(".mdl-menu");
button?.addEventListener("click", (event) => {
  menu.classList.toggle("is-open");
  event.stopPropagation();
});
document.addEventListener("click", () => menu?.classList.remove("is-open"));
setInterval(() => {
  const busy = menu?.classList.contains("is-open") || document.querySelector("dialog[open]");
  if (!busy) location.reload();
}, RELOAD_MS);
