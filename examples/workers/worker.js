// A worker on a pipe: posta up --worker 'node worker.js'
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

say({ id: "w", op: "work", actions: ["greet"] });
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const { status, lease, payload } = JSON.parse(line);
  if (status !== "running") return;
  if (typeof payload?.name === "string") say({ op: "done", lease, data: "hello " + payload.name });
  else say({ op: "fail", lease, error: "there is no name", retry: false });
});
