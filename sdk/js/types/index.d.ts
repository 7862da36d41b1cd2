export { Worker } from "./src/worker.js";
export { Client, Task } from "./src/client.js";
export { Cancelled, ConnectionLost, Permanent, PostaError, Refused, Retry, TaskFailed, UnknownOutcome, WaitTimeout } from "./src/errors.js";
