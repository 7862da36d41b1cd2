// The script of the dashboard: keeps the page up to date, and adds keys. Every page works without it.
const root = document.body.dataset.root;
const main = () => document.getElementById("main");
const part = main().dataset.part;
const policy = globalThis.trustedTypes?.createPolicy("posta", { createHTML: (text) => text }) ?? { createHTML: (text) => text };
const numbers = new Intl.NumberFormat(document.documentElement.lang);

// ---- What has changed: one stream, from which the page learns when to fetch its main part again.

const live = document.getElementById("live");
let paused = sessionStorage.getItem("paused") === "yes";
let latest = null; // the latest mark of the part that this page shows
let shown = null; // the mark of what is shown; what came with the page may be older than the first news
let tag = ""; // the version of the main part that is shown
let fetching = false;
let stream = null;

function connect() {
  if (!live || stream || paused || document.hidden) return;
  stream = new EventSource(root + "live");
  stream.onopen = () => label("live");
  stream.onerror = () => label("away");
  stream.onmessage = (event) => receive(JSON.parse(event.data));
}

function disconnect() {
  stream?.close();
  stream = null;
}

function receive(news) {
  label(news.away ? "away" : "live");
  for (const place of document.querySelectorAll("[data-n]")) {
    const text = numbers.format(news.n[place.dataset.n] ?? 0);
    if (place.textContent !== text) place.textContent = text;
  }
  latest = part === "always" ? news.at : news.parts[part];
  if (latest !== shown) refresh();
}

function label(state) {
  live.dataset.state = state;
  live.setAttribute("aria-pressed", String(state !== "paused"));
  const text = live.dataset[state];
  live.firstElementChild.textContent = text;
  live.setAttribute("aria-label", text);
  live.title = text;
}

// isBusy reports whether a person is in the middle of something that a change would disturb.
function isBusy() {
  if (paused || document.hidden) return true;
  if (document.querySelector("dialog[open], details.confirm[open], main tr.at, main input[name=task]:checked")) return true;
  const at = document.activeElement;
  if (at && main().contains(at) && /^(INPUT|SELECT|TEXTAREA)$/.test(at.tagName)) return true;
  const selection = getSelection();
  return selection !== null && !selection.isCollapsed && main().contains(selection.anchorNode);
}

async function refresh() {
  if (fetching || isBusy()) return;
  fetching = true;
  const wanted = latest;
  try {
    const headers = { "Posta-Part": "main", Accept: "text/html" };
    if (tag) headers["If-None-Match"] = tag;
    const answer = await fetch(location.href, { headers, cache: "no-store", redirect: "error" });
    if (answer.status === 200) {
      const text = await answer.text();
      if (!isBusy()) {
        tag = answer.headers.get("ETag") ?? "";
        merge(new DOMParser().parseFromString(policy.createHTML(text), "text/html").getElementById("main"));
      }
    }
    if (answer.ok || answer.status === 304) shown = wanted;
  } catch {
    // The stream notices when the node is back.
  } finally {
    fetching = false;
  }
}

// merge changes the page into the new one, and keeps focus, scroll position and what is unfolded. Rows that are new do not
// push away what is being read: they are counted, and come when asked for.
function merge(fresh) {
  if (!fresh) return;
  const old = document.querySelector("#tasks tbody");
  const rows = fresh.querySelectorAll("#tasks tbody tr");
  if (old && scrollY > old.getBoundingClientRect().top + scrollY - 80) {
    const known = new Set(Array.from(old.rows, (row) => row.id));
    const newer = Array.from(rows).filter((row) => !known.has(row.id)).length;
    if (newer > 0) {
      offer(newer, fresh);
      return;
    }
  }
  apply(fresh);
}

function offer(count, fresh) {
  let button = document.getElementById("newer");
  if (!button) {
    button = document.createElement("button");
    button.id = "newer";
    button.type = "button";
    button.className = "newer";
    main().prepend(button);
  }
  const words = document.getElementById("tasks").dataset;
  button.textContent = (count === 1 ? words.newerOne : words.newerOther).replace("%s", numbers.format(count));
  button.onclick = () => {
    apply(fresh);
    scrollTo({ top: 0 });
  };
}

function apply(fresh) {
  globalThis.Idiomorph.morph(main(), fresh, {
    morphStyle: "outerHTML",
    ignoreActiveValue: true,
    callbacks: {
      // The matches of a filter are counted when the page is opened.
      beforeNodeRemoved: (node) => node.id !== "counted",
      beforeNodeMorphed: (before, after) => {
        // What a person has unfolded, or folded, stays so.
        if (before.nodeName === "DETAILS" && after.nodeName === "DETAILS") after.open = before.open;
      },
    },
  });
  prepare();
}

if (live) {
  live.hidden = false;
  live.addEventListener("click", () => {
    paused = !paused;
    sessionStorage.setItem("paused", paused ? "yes" : "no");
    if (paused) {
      disconnect();
      label("paused");
    } else {
      connect();
    }
    announce(live.getAttribute("aria-label"));
  });
  if (paused) label("paused");
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", connect);
  connect();
}

function announce(text) {
  document.getElementById("announce").textContent = text;
}

// ---- Copying

function prepare() {
  for (const button of document.querySelectorAll("[data-copy]")) {
    if (navigator.clipboard) button.hidden = false;
  }
}
prepare();

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) {
    await navigator.clipboard.writeText(button.dataset.copy);
    announce(button.dataset.copied);
    const before = button.textContent;
    button.textContent = button.dataset.copied;
    setTimeout(() => (button.textContent = before), 1200);
  }
  // A question that was left unanswered closes.
  for (const open of document.querySelectorAll("details.confirm[open]")) {
    if (!open.contains(event.target)) open.open = false;
  }
});

// ---- Keys

const pages = { o: "", t: "tasks", f: "failures", q: "queues", n: "nodes" };
let going = false;

function move(step) {
  const rows = Array.from(main().querySelectorAll("tbody tr")).filter((row) => row.querySelector("a"));
  if (rows.length === 0) return;
  const at = rows.findIndex((row) => row.classList.contains("at"));
  rows[at]?.classList.remove("at");
  const next = rows[Math.min(rows.length - 1, Math.max(0, at < 0 ? (step > 0 ? 0 : rows.length - 1) : at + step))];
  next.classList.add("at");
  next.querySelector("a").focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

document.addEventListener("focusout", (event) => event.target.closest?.("tr.at")?.classList.remove("at"));

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    for (const open of document.querySelectorAll("details.confirm[open]")) {
      open.open = false;
      open.querySelector("summary").focus();
    }
    if (event.target.id === "search") event.target.blur();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
  if (going) {
    going = false;
    if (event.key in pages) location.href = root + pages[event.key];
    return;
  }
  switch (event.key) {
    case "/":
      event.preventDefault();
      document.getElementById("search").select();
      break;
    case "g":
      going = true;
      setTimeout(() => (going = false), 1500);
      break;
    case "j":
      move(1);
      break;
    case "k":
      move(-1);
      break;
    case "x": {
      const box = main().querySelector("tr.at input[name=task]");
      if (box) box.checked = !box.checked;
      break;
    }
    case "c":
    case "e":
    case "r": {
      const chosen = main().querySelector("input[name=task]:checked");
      const box = main().querySelector("tr.at input[name=task]");
      if (box && !chosen) box.checked = true;
      main().querySelector(`[data-key=${event.key}]`)?.click();
      break;
    }
    case "p":
      live?.click();
      break;
    case "?":
      document.getElementById("help").showModal();
      break;
  }
});
