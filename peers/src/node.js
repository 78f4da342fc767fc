// Node's MessagePort between the main thread and a worker: round trips and streams, with events or by polling.
// Reads lines `kind wait size warm_up count` and answers each with the nanoseconds of the timed part.
'use strict';
const { Worker, isMainThread, MessageChannel, receiveMessageOnPort, workerData } = require('node:worker_threads');

// A message is 32-bit words: a stamp, and words whose sum is checked.
const words = (size) => Uint32Array.from({ length: size / 4 }, (_, at) => at * 131);
const sum = (message) => message.reduce((sum, word) => (sum + word) | 0, 0) - message[0] | 0;

function end(port, size) {
  const message = words(size);
  const expected = sum(message);
  return {
    send(stamp) { message[0] = stamp; port.postMessage(message); },
    check(received, stamp) {
      if (received[0] !== stamp || sum(received) !== expected) throw new Error('a wrong message arrived');
    },
    poll(stamp) {
      let received;
      while ((received = receiveMessageOnPort(port)) === undefined);
      this.check(received.message, stamp);
    },
  };
}

if (isMainThread) {
  const { port1: control, port2: theirControl } = new MessageChannel();
  const { port1: port, port2: theirPort } = new MessageChannel();
  const worker = new Worker(__filename,
    { workerData: { control: theirControl, port: theirPort }, transferList: [theirControl, theirPort] });
  const play = ({ kind, wait, size, all, warm_up }) => new Promise((done) => {
    const { send, check, poll } = Object.assign(end(port, size));
    const self = { check };
    let begin;
    const tick = (at) => { if (at === warm_up) begin = process.hrtime.bigint(); };
    control.postMessage({ kind, wait, size, all });
    if (wait === 'spin') {
      for (let at = 0; at < all; at++) {
        tick(at);
        if (kind === 'rtt') send(at);
        poll.call(self, at);
      }
      return done(process.hrtime.bigint() - begin);
    }
    let at = 0;
    tick(0);
    port.on('message', (received) => {
      check(received, at++);
      tick(at);
      if (at === all) {
        port.removeAllListeners('message');
        return done(process.hrtime.bigint() - begin);
      }
      if (kind === 'rtt') send(at);
    });
    if (kind === 'rtt') send(0);
  });
  (async () => {
    for await (const line of require('node:readline').createInterface({ input: process.stdin })) {
      const [kind, wait, size, warm_up, count] = line.split(' ').map((word) => (isNaN(word) ? word : Number(word)));
      console.log(String(await play({ kind, wait, size, warm_up, all: warm_up + count })));
    }
    await worker.terminate();
    process.exit(0);
  })();
} else {
  const { control, port } = workerData;
  control.on('message', ({ kind, wait, size, all }) => {
    const { send, check, poll } = end(port, size);
    const self = { check };
    if (kind === 'stream') {
      for (let at = 0; at < all; at++) send(at);
    } else if (wait === 'spin') {
      for (let at = 0; at < all; at++) {
        poll.call(self, at);
        send(at);
      }
    } else {
      let at = 0;
      port.on('message', (received) => {
        check(received, at);
        send(at++);
        if (at === all) port.removeAllListeners('message');
      });
    }
  });
}
