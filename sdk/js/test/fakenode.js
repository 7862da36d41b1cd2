// A node that does what a test tells it to.
import { createServer as createHTTP } from "node:http";
import { createServer } from "node:net";

import { LineReader } from "../src/line.js";
import { Inbox } from "./inbox.js";

/** The end of a connection, among its lines. */
const END = Symbol("end");

/** A connection of a client or worker. */
class Peer {
  lines = new Inbox();

  constructor(socket) {
    this.socket = socket;
    const reader = new LineReader((line) => this.#receive(JSON.parse(line)));
    let ended = false;
    const end = () => {
      if (!ended) this.lines.push(END);
      ended = true;
    };
    socket.on("data", (chunk) => reader.push(chunk));
    socket.on("error", () => {});
    socket.on("end", end);
    socket.on("close", end);
  }

  #receive(line) {
    if (line.op === "ping") this.send({ id: line.id, status: "done", result: { ok: true, data: "pong" } });
    else if (line.op === "info") this.send({ id: line.id, status: "done", result: { ok: true, protocol: 1, features: ["work"] } });
    else this.lines.push(line);
  }

  /** Resolves with the next line. */
  async line() {
    const line = await this.lines.next("a line");
    if (line === END) throw new Error("the connection ended where a line was expected");
    return line;
  }

  /** Resolves when the other side has ended; no line may come before. */
  async end() {
    const line = await this.lines.next("the end of the connection");
    if (line !== END) throw new Error(`a line came before the end: ${JSON.stringify(line)}`);
  }

  /** Sends lines in one write. */
  send(...lines) {
    this.write(lines.map((line) => JSON.stringify(line) + "\n").join(""));
  }

  write(bytes) {
    this.socket.write(bytes);
  }
}

/** A fake node on a port of its own. */
export class FakeNode {
  #server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#accept(socket));
  #http = createHTTP((request, response) => this.#serve(request, response));
  #peers = new Inbox();
  #requests = new Inbox();
  #sockets = new Set();

  /** Listens on loopback. The test closes it. */
  static async start(t) {
    const node = new FakeNode();
    await new Promise((resolve) => node.#server.listen(0, "127.0.0.1", resolve));
    node.address = `127.0.0.1:${node.#server.address().port}`;
    t?.after(() => node.close());
    return node;
  }

  /** Resolves with the next connection that speaks lines. */
  accept() {
    return this.#peers.next("a connection");
  }

  /** Resolves with the next HTTP request: {method, path, headers, body, answer(status, json)}. */
  request() {
    return this.#requests.next("an HTTP request");
  }

  close() {
    for (const socket of this.#sockets) socket.destroy();
    this.#http.close();
    return new Promise((resolve) => this.#server.close(resolve));
  }

  #accept(socket) {
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("error", () => {});
    // The worker may be silent until it hears something, so a connection without a first byte counts as lines.
    socket.once("readable", () => {
      const first = socket.read();
      if (first) socket.unshift(first);
      if (first && first[0] >= 0x41 && first[0] <= 0x5a) this.#http.emit("connection", socket);
      else this.#peers.push(new Peer(socket));
    });
  }

  #serve(request, response) {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      const { method, url: path, headers } = request;
      const answer = (status, json) => {
        response.writeHead(status, { "Content-Type": "application/json" });
        response.end(JSON.stringify(json));
      };
      this.#requests.push({ method, path, headers, body: Buffer.concat(chunks).toString(), answer });
    });
  }
}
