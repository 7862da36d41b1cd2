// Posta's client and worker for Node. README.md shows how to use them.
export { Client, Task } from "./src/client.js";
export { Worker } from "./src/worker.js";
export {
  Cancelled,
  ConnectionLost,
  Permanent,
  PostaError,
  Refused,
  Retry,
  TaskFailed,
  UnknownOutcome,
  WaitTimeout,
} from "./src/errors.js";
