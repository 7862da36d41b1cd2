#!/usr/bin/env node
// Tasks from Node, with nothing but its own modules.
//
//     POSTA_TO=127.0.0.1:9000 node examples/node/tasks.js
//
// Sends two tasks at once on one connection and prints each result as it comes:
// the quick task does not wait for the slow one, so it is the id that tells the
// replies apart, never their order.

'use strict';

const net = require('node:net');
const readline = require('node:readline');

const tasks = [
  { id: 'slow', action: 'sleep', payload: 0.3 },
  { id: 'fast', action: 'upper', payload: 'hola' },
];

const [, host, port] = (process.env.POSTA_TO || '127.0.0.1:9000').match(/^(.*):(\d+)$/);
const connection = net.connect({ host, port: Number(port) });

// Ending our side says that no more tasks will come. The other side stays open
// until all are answered, since allowHalfOpen concerns what we do at its end.
connection.end(tasks.map((task) => JSON.stringify(task) + '\n').join(''));
connection.setTimeout(10_000, () => connection.destroy(new Error('no reply for 10 s')));
connection.on('error', (error) => {
  console.error(error.message);
  process.exitCode = 1;
});

readline.createInterface({ input: connection }).on('line', (line) => {
  const reply = JSON.parse(line);
  if (reply.status === 'error') { // the line itself was refused
    connection.destroy(new Error(`${reply.code}: ${reply.error}`));
    return;
  }
  console.log(reply.id, JSON.stringify(reply.result));
});
