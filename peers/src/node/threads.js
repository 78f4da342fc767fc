// Node's MessagePort between the main thread and a worker: round trips and streams, received with events or by polling.
// Reads lines `pattern wait size warm_up count` and answers each with the duration of the timed part in nanoseconds.
'use strict';
const { Worker, isMainThread, MessageChannel, receiveMessageOnPort, workerData } = require('node:worker_threads');

// One end of a channel. A message consists of 32-bit words: a stamp, and words whose sum the receiver checks.
class End {
  constructor(port, size) {
    this.port = port;
    this.message = Uint32Array.from({ length: size / 4 }, (_, at) => at * 131);
    this.expected = End.sum(this.message);
  }
  static sum(message) {
    let sum = 0;
    for (let at = 1; at < message.length; at++) sum = (sum + message[at]) | 0;
    return sum;
  }
  send(stamp) {
    this.message[0] = stamp;
    this.port.postMessage(this.message);
  }
  check(received, stamp) {
    if (received[0] !== stamp || End.sum(received) !== this.expected) throw new Error('a wrong message arrived');
  }
  poll(stamp) {
    let received;
    while ((received = receiveMessageOnPort(this.port)) === undefined);
    this.check(received.message, stamp);
  }
}

// Each thread has a port with a permanent listener, and a port that is only polled. The latter is never started, because
// a started port without a listener drops incoming messages.
if (isMainThread) {
  const [control, heard, polled] = [1, 2, 3].map(() => new MessageChannel());
  const theirs = { control: control.port2, heard: heard.port2, polled: polled.port2 };
  const worker = new Worker(__filename, { workerData: theirs, transferList: Object.values(theirs) });
  let listener;
  heard.port1.on('message', (message) => listener(message));
  const play = (turn) => new Promise((done) => {
    let begin;
    const tick = (at) => { if (at === turn.warm_up) begin = process.hrtime.bigint(); };
    const trips = turn.pattern === 'rtt';
    if (turn.wait === 'spin') {
      const end = new End(polled.port1, turn.size);
      control.port1.postMessage(turn);
      for (let at = 0; at < turn.all; at++) {
        tick(at);
        if (trips) end.send(at);
        end.poll(at);
      }
      return done(process.hrtime.bigint() - begin);
    }
    const end = new End(heard.port1, turn.size);
    let at = 0;
    tick(0);
    listener = (received) => {
      end.check(received, at++);
      tick(at);
      if (at === turn.all) return done(process.hrtime.bigint() - begin);
      if (trips) end.send(at);
    };
    heard.port1.postMessage(turn);
    if (trips) end.send(0);
  });
  (async () => {
    for await (const line of require('node:readline').createInterface({ input: process.stdin })) {
      const [pattern, wait, ...numbers] = line.split(' ');
      const [size, warm_up, count] = numbers.map(Number);
      console.log(String(await play({ pattern, wait, size, warm_up, all: warm_up + count })));
    }
    await worker.terminate();
    process.exit(0);
  })();
} else {
  const { control, heard, polled } = workerData;
  const stream = (end, all) => { for (let at = 0; at < all; at++) end.send(at); };
  control.on('message', ({ pattern, size, all }) => {
    const end = new End(polled, size);
    if (pattern === 'stream') return stream(end, all);
    for (let at = 0; at < all; at++) {
      end.poll(at);
      end.send(at);
    }
  });
  // The turn to play arrives before its messages, on the same port.
  let playing;
  heard.on('message', (message) => {
    if (!playing) {
      const end = new End(heard, message.size);
      if (message.pattern === 'stream') return stream(end, message.all);
      playing = { end, at: 0, all: message.all };
      return;
    }
    playing.end.check(message, playing.at);
    playing.end.send(playing.at++);
    if (playing.at === playing.all) playing = undefined;
  });
}
