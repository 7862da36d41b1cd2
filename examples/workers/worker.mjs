// Two actions in Node. npm install ./sdk/js && node examples/workers/worker.mjs
import { Worker, Retry } from "posta";

const worker = new Worker(process.env.POSTA_TO, { slots: 8, actions: {
  greet: ({ name }) => `hello ${name}`,
  async resize({ url, width = 100 }, { progress, attempt }) {
    progress(40, "decoded");
    if (url === "slow.png" && attempt === 1) throw new Retry("the cdn is slow", { after: 1 });
    return { url, width };
  } } });
await worker.start();
console.log("ready");
