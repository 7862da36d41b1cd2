import { connect } from "/posta.js";
import { openOutbox } from "/posta-outbox.js";

const $ = (selector, from = document) => from.querySelector(selector);

const posta = connect("/", {
  async token() {
    const response = await fetch("/pass", { method: "POST" });
    if (!response.ok) throw new Error("the server gives no pass");
    return response.text();
  },
});

// What was sent, oldest first: {key, text, task, status, result}. What was not yet sent is in the outbox.
const load = () => JSON.parse(localStorage.notes ?? "[]");
function keep(note) {
  const notes = load().filter(({ key }) => key !== note.key);
  localStorage.notes = JSON.stringify([...notes, note].slice(-100));
  draw();
}

const outbox = await openOutbox(posta, {
  onsent({ payload, options }, { task }) {
    const note = { key: options.key, text: payload, task, status: "queued" };
    keep(note);
    follow(note);
  },
  onchange: () => draw(),
});

/** Keeps the result of a note that was sent. */
async function follow(note) {
  try {
    for await (const { status, result, error } of posta.watch(note.task)) {
      if (status !== note.status) keep(Object.assign(note, { status, result: result?.data ?? error }));
    }
  } catch (error) {
    keep(Object.assign(note, { status: "failed", result: error.message }));
  }
}

const says = {
  kept: "on this phone",
  refused: "refused",
  scheduled: "sent",
  queued: "sent",
  running: "being worked on",
  done: "done",
  failed: "failed",
  cancelled: "cancelled",
};

async function draw() {
  const entries = await outbox.list();
  const sent = load(); // after the outbox, so that no note is missing while it moves
  const kept = entries.filter(({ options }) => !sent.some(({ key }) => key === options.key));
  const notes = [
    ...sent,
    ...kept.map(({ payload, options, refused }) => ({ key: options.key, text: payload, status: refused ? "refused" : "kept", result: refused?.message })),
  ];
  $("#notes").replaceChildren(
    ...notes.map(({ key, text, status, result }) => {
      const row = $("#note").content.firstElementChild.cloneNode(true);
      row.dataset.state = status;
      $(".text", row).textContent = text;
      $(".state", row).textContent = result ? `${says[status]}: ${result}` : says[status];
      $("button", row).hidden = status !== "refused";
      $("button", row).onclick = () => outbox.remove(key);
      return row;
    }),
  );
  $("#way").dataset.way = navigator.onLine ? "online" : "offline";
  $("#way").textContent = navigator.onLine ? "online" : "offline: notes are kept here";
}

$("form").onsubmit = async (event) => {
  event.preventDefault();
  const { text } = event.target.elements;
  try {
    await outbox.add("upper", text.value);
    text.value = "";
  } catch (error) {
    $("#way").textContent = error.message; // the outbox is full
  }
};
addEventListener("online", draw);
addEventListener("offline", draw);
addEventListener("storage", draw); // another tab has sent something

navigator.serviceWorker.register("service-worker.js");
for (const note of load()) if (/queued|running|scheduled/.test(note.status)) follow(note);
await draw();
