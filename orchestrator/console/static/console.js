// Pages are whole without this. It fetches the page again when there is news and exchanges the parts that are
// different, moves the replay's slider without a reload, and lets one move by keys.
"use strict";

const policy = window.trustedTypes
  ? trustedTypes.createPolicy("console", { createHTML: (html) => html })
  : { createHTML: (html) => html };

// --- Exchanging parts -------------------------------------------------------------------------------------------

let asked = 0;

async function refresh(address = location.href) {
  const turn = ++asked;
  const answer = await fetch(address, { headers: { accept: "text/html" } });
  const html = await answer.text();
  if (turn !== asked) return; // a later question is under way
  if (answer.redirected && new URL(answer.url).pathname === "/login") return location.reload();
  exchange(new DOMParser().parseFromString(policy.createHTML(html), "text/html"));
}

function exchange(fresh) {
  const focused = document.activeElement?.closest("a[href], [id]");
  const [id, href] = [focused?.id, focused?.getAttribute("href")];
  for (const part of document.querySelectorAll("[data-part]")) {
    const next = fresh.getElementById(part.id);
    if (!next || next.outerHTML === part.outerHTML) continue;
    const before = new Map([...part.querySelectorAll("tr[id]")].map((row) => [row.id, row.dataset.row]));
    const open = part.querySelector(".scroll")?.scrollLeft;
    part.replaceWith(document.adoptNode(next));
    if (before.size) for (const row of next.querySelectorAll("tr[id]")) row.classList.toggle("fresh", !before.has(row.id));
    if (open) next.querySelector(".scroll").scrollLeft = open;
  }
  document.title = fresh.title;
  if (!document.activeElement || document.activeElement === document.body) {
    const again = id ? document.getElementById(id) : href && document.querySelector(`a[href="${CSS.escape(href)}"]`);
    again?.focus({ preventScroll: true });
  }
  pulse();
}

// --- News ---------------------------------------------------------------------------------------------------------

const address = document.body.dataset.live;
let stream = null;

function pulse() {
  const live = stream?.readyState === EventSource.OPEN;
  document.body.classList.toggle("live", live);
  const word = document.querySelector(".pulse-word");
  if (word) word.textContent = live ? "live" : "current";
}

function listen() {
  stream = new EventSource(address);
  stream.addEventListener("ready", pulse);
  stream.addEventListener("news", () => refresh().catch(pulse));
  stream.addEventListener("error", pulse);
}

if (address) {
  // A hidden page holds no connection: a browser has six for each server, and its tabs share them.
  document.addEventListener("visibilitychange", () => {
    stream?.close();
    if (!document.hidden) {
      listen();
      refresh().catch(pulse);
    }
  });
  if (!document.hidden) listen();
  setInterval(() => document.hidden || refresh().catch(pulse), 30000); // "4 min ago" grows older without news
}

// --- The slider ---------------------------------------------------------------------------------------------------

const slider = document.querySelector("[data-replay] input[type=range]");

function replay(at) {
  const where = `?at=${at}`;
  slider.value = at;
  slider.setAttribute("aria-valuetext", `message ${at} of ${slider.max}`);
  history.replaceState(null, "", where);
  refresh(location.href).catch(() => location.assign(where));
}

if (slider) {
  slider.addEventListener("input", () => replay(slider.value));
  document.addEventListener("click", (event) => {
    const link = event.target.closest(".stepper a, .facts a[href*='/replay?at=']");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    replay(new URL(link.href).searchParams.get("at"));
  });
}

// --- Keys ---------------------------------------------------------------------------------------------------------

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  l: () => (row() ? row().querySelector("a").click() : follow("[rel=next]")),
  h: () => follow(document.querySelector("[rel=prev]") && !row() ? "[rel=prev]" : "[rel=up]"),
  "/": () => document.querySelector("[data-search]")?.focus(),
  "?": () => location.assign("/help"),
};

function follow(selector) {
  document.querySelector(selector)?.click();
}

function row() {
  return document.activeElement.closest("[data-row]");
}

function step(by) {
  const rows = [...document.querySelectorAll("[data-row]")];
  const now = rows.indexOf(row());
  const next = rows[now < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(Math.max(now + by, 0), rows.length - 1)];
  next?.querySelector("a")?.focus();
}

const toggle = document.getElementById("keys-toggle");
const keysAreOn = () => localStorage.getItem("keys") !== "off";

function showToggle() {
  toggle.hidden = false;
  toggle.setAttribute("aria-pressed", String(keysAreOn()));
  toggle.textContent = `Single-key shortcuts are ${keysAreOn() ? "on" : "off"}`;
}

if (toggle) {
  showToggle();
  toggle.addEventListener("click", () => {
    localStorage.setItem("keys", keysAreOn() ? "off" : "on");
    showToggle();
  });
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input:not([type=range]), select, textarea");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !keysAreOn() || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});
