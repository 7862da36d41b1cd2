import { connect } from "/posta.js";

const MOST = 20e6; // bytes of an image
const $ = (selector, from = document) => from.querySelector(selector);

const posta = connect("/", {
  // The backend signs a pass that lasts some minutes. The client asks for another before it ends.
  async token() {
    const response = await fetch("/pass", { method: "POST" });
    if (!response.ok) throw new Error("the server gives no pass");
    return response.text();
  },
  onchange(way) {
    $("#way").dataset.way = way;
    $("#way").textContent = { socket: "live", fetch: "live, without WebSocket", offline: "offline, trying again" }[way];
  },
});

// The tasks of this tab, so that the page can be loaded again while they run: [{task, name}].
const tasks = JSON.parse(sessionStorage.tasks ?? "[]");
const remember = () => (sessionStorage.tasks = JSON.stringify(tasks));

/** Adds a card to the page. */
function addCard(name) {
  const card = $("#card").content.firstElementChild.cloneNode(true);
  $("h2", card).textContent = name;
  $("#cards").prepend(card);
  return {
    say(state, text, percent) {
      card.dataset.state = state;
      $(".state", card).textContent = text;
      const bar = $("progress", card);
      bar.hidden = !/sending|queued|running/.test(state);
      if (percent === undefined) bar.removeAttribute("value"); // it moves, and tells nothing
      else bar.value = percent;
      bar.setAttribute("aria-label", text);
      if (bar.hidden) $(".cancel", card).hidden = true;
    },
    show(address, alt) {
      Object.assign($("img", card), { src: address, alt, hidden: false });
    },
    offer(address) {
      Object.assign($(".tools a", card), { href: address, download: `small-${name.replace(/\.\w+$/, "")}.jpg`, hidden: false });
    },
    onCancel(cancel) {
      $(".cancel", card).hidden = false;
      $(".cancel", card).onclick = cancel;
    },
  };
}

/** Resolves with the bytes of a file in base64. */
const base64 = (file) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(",")[1]);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });

/** Has a worker make a thumbnail of a file. */
async function send(file) {
  const card = addCard(file.name);
  if (file.size > MOST) return card.say("failed", "The image is larger than 20 MB.");
  card.show(URL.createObjectURL(file), "");
  card.say("sending", "sending");
  try {
    const { task } = await posta.enqueue("thumbnail", { image: await base64(file), width: 320 });
    tasks.push({ task, name: file.name });
    remember();
    await follow(card, task);
  } catch (error) {
    card.say("failed", error.message);
  }
}

/** Shows on a card what happens to a task, up to its end. */
async function follow(card, task) {
  card.onCancel(() => posta.cancel(task).catch((error) => card.say("failed", error.message)));
  for await (const { status, progress, result, error } of posta.watch(task)) {
    if (status === "done") {
      const { image, width, height } = result.data;
      const address = `data:image/jpeg;base64,${image}`;
      card.show(address, `thumbnail, ${width} by ${height} pixels`);
      card.offer(address);
      card.say("done", `${width} × ${height} pixels, ${Math.ceil((image.length * 3) / 4096)} KB`);
    } else if (status === "running") {
      card.say("running", progress?.message ?? "running", progress?.percent);
    } else {
      card.say(status, { queued: "waits for a worker", scheduled: "is tried again soon", cancelled: "cancelled" }[status] ?? error);
    }
  }
}

$("#files").onchange = ({ target }) => {
  [...target.files].forEach(send);
  target.value = "";
};
$("#drop").ondragover = (event) => event.preventDefault();
$("#drop").ondrop = (event) => {
  event.preventDefault();
  [...event.dataTransfer.files].forEach(send);
};

for (const { task, name } of tasks) {
  const card = addCard(name);
  follow(card, task).catch((error) => card.say("failed", error.message));
}
