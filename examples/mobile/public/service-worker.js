// Keeps the shell of the page, so that it opens offline. It never touches passes, tasks and results.

const CACHE = "shell";
const SHELL = ["./", "app.js", "style.css", "manifest.webmanifest", "icon-192.png", "/posta.js", "/posta-outbox.js"].map(
  (path) => new URL(path, location).href,
);

addEventListener("install", (event) => event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(SHELL))));
addEventListener("activate", (event) => event.waitUntil(clients.claim()));

// What is kept is served at once, and fetched anew for the next time.
addEventListener("fetch", (event) => {
  if (event.request.method !== "GET" || !SHELL.includes(event.request.url)) return;
  const fresh = fetch(event.request).then(async (response) => {
    if (response.ok) await (await caches.open(CACHE)).put(event.request, response.clone());
    return response;
  });
  event.waitUntil(fresh.catch(() => {}));
  event.respondWith(caches.match(event.request).then((kept) => kept ?? fresh));
});
