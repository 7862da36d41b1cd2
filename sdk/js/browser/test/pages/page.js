// The page of the tests in Chromium: it keeps what happens where they look.
import { connect } from "/posta.js";
import { openOutbox } from "/posta-outbox.js";

window.states = [];
window.sent = [];
window.refused = [];
window.posta = connect("/", {
  async token() {
    const response = await fetch("/pass", { method: "POST" });
    if (!response.ok) throw new Error("no pass");
    return response.text();
  },
  onchange: (state) => states.push(state),
});
window.follow = async (task) => {
  window.seen = [];
  for await (const event of posta.watch(task)) seen.push(event.status);
};
window.box = await openOutbox(posta, {
  onsent: (entry, answer) => sent.push(answer),
  onrefused: (entry) => refused.push(entry.refused.code),
});
window.ready = true;
