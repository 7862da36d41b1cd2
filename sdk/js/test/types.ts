// Compiles only if the published types are those that the README promises. It is not run.
import { Cancelled, Client, Permanent, Retry, TaskFailed, Worker } from "posta";
import { connect, type TaskEvent } from "posta/browser";
import { openOutbox } from "posta/outbox";

const client = new Client("127.0.0.1:9000", { token: "correct-horse-battery", tls: { ca: "…" } });
const task = await client.enqueue("resize", { url: "a.png" }, { key: "a-100", runAt: new Date(), meta: { user: "7" } });
for await (const event of task.watch({ after: 3 })) {
  const status: "scheduled" | "queued" | "running" | "done" | "failed" | "cancelled" = event.status;
  const percent: number | undefined = event.progress?.percent;
  console.log(status, percent);
}
try {
  await task.wait({ timeout: 60, signal: AbortSignal.timeout(1000) });
} catch (error) {
  if (error instanceof TaskFailed) console.log(error.record?.max_attempts, error.code);
}

const worker = new Worker(undefined, {
  slots: 8,
  actions: {
    async resize({ url, width = 100 }, { signal, progress, attempt }) {
      progress(40, "loaded");
      if (signal.aborted && (signal.reason as Cancelled).code === "lost") throw new Permanent("gone");
      if (attempt === 1) throw new Retry("the cdn is slow", { after: 30 });
      return { url, width };
    },
  },
});
await worker.start();
await worker.stopped;

// @ts-expect-error a worker has no such option
new Worker(undefined, { slot: 8, actions: {} });
// @ts-expect-error the names of options are in camel case
await client.enqueue("resize", 1, { max_attempts: 3 });

const page = connect("/", { token: async () => "pass", onchange: (way: "socket" | "fetch" | "offline") => console.log(way) });
const last: TaskEvent[] = [];
for await (const event of page.watch(await page.enqueue("resize", { url: "a.png" }, { run_at: "2026-12-01T00:00:00Z" }))) last.push(event);
const outbox = await openOutbox(page, { onsent: (entry, answer) => console.log(entry.options.key, answer.task) });
const key: string = await outbox.add("note", { text: "typed in a tunnel" });
await outbox.remove(key);
// @ts-expect-error on the line, the names of options have underscores
await page.enqueue("resize", 1, { maxAttempts: 3 });
