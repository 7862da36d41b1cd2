// A worker for TestTasksOutliveNodesAndWorkers. POSTA_TO names the nodes.
import { setTimeout } from "node:timers/promises";

import { Worker } from "../js/index.js";

const worker = new Worker(undefined, { slots: 8, actions: {
  async javascript({ number }) {
    await setTimeout(50); // stands for work
    return 2 * number;
  } } });
await worker.start();
