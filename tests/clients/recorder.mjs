// A proxy between clients and the gateway that passes every byte on as it came and keeps what was said over WebSockets.

import net from "node:net";
import { once } from "node:events";

const TEXT = 1;
const CLOSE = 8;

/** Listens in between; `connections` holds every WebSocket connection there was, in order. */
export class Recorder {
  #server;
  #sockets = new Set();

  constructor() {
    this.connections = [];
  }

  /** Listens on a port of its own and hands everything on to the gateway on `port`. */
  async start(port) {
    this.#server = net.createServer((client) => this.#join(client, net.connect(port, "127.0.0.1")));
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    this.port = this.#server.address().port;
    this.url = `ws://127.0.0.1:${this.port}`;
    return this;
  }

  #join(client, gateway) {
    const conversation = new Conversation((connection) => this.connections.push(connection));
    for (const [from, to, heard] of [
      [client, gateway, (bytes) => conversation.fromClient(bytes)],
      [gateway, client, (bytes) => conversation.fromGateway(bytes)],
    ]) {
      this.#sockets.add(from);
      // What was heard is noted before it is passed on: when a test sees an answer, the record has it too.
      from.on("data", (bytes) => {
        heard(bytes);
        if (!to.write(bytes)) {
          from.pause();
          to.once("drain", () => from.resume());
        }
      });
      from.on("end", () => to.end());
      from.on("error", () => to.destroy());
      from.on("close", () => {
        this.#sockets.delete(from);
        to.destroySoon();
      });
    }
  }

  stop() {
    this.#server?.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

/** One TCP connection: HTTP, until the gateway agrees to a WebSocket. */
class Conversation {
  #head = Buffer.alloc(0);
  #early = [];
  #connection;
  #other = false;

  constructor(opened) {
    this.opened = opened;
  }

  fromClient(bytes) {
    if (this.#other) return;
    if (this.#connection) this.#connection.clientFrames.push(bytes);
    else this.#early.push(bytes);
  }

  fromGateway(bytes) {
    if (this.#other) return;
    if (this.#connection) return this.#connection.gatewayFrames.push(bytes);
    this.#head = Buffer.concat([this.#head, bytes]);
    const end = this.#head.indexOf("\r\n\r\n");
    if (end < 0) return;
    const head = this.#head.subarray(0, end).toString("latin1");
    if (!head.startsWith("HTTP/1.1 101 ")) {
      // Files are asked for; no client asks for a WebSocket on the same connection after that.
      this.#other = true;
      this.#head = this.#early = undefined;
      return;
    }
    this.#connection = new Connection(head);
    this.opened(this.#connection);
    this.#connection.gatewayFrames.push(this.#head.subarray(end + 4));
    const asked = Buffer.concat(this.#early);
    const upgrade = asked.lastIndexOf("\r\n\r\n");
    this.#connection.clientFrames.push(asked.subarray(upgrade + 4));
  }
}

/** What was said on one WebSocket, in order: `{from: "client"|"gateway", text}`, or `{from, close: {code, reason}}`. */
class Connection {
  constructor(head) {
    this.head = head;
    this.said = [];
    this.clientFrames = new Frames((frame) => this.said.push({ from: "client", ...frame }));
    this.gatewayFrames = new Frames((frame) => this.said.push({ from: "gateway", ...frame }));
  }
}

/** Takes WebSocket frames apart, as they come in pieces of any size. */
class Frames {
  #bytes = Buffer.alloc(0);
  #message = [];

  constructor(heard) {
    this.heard = heard;
  }

  push(bytes) {
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    for (;;) {
      const frame = this.#next();
      if (!frame) return;
      if (frame.code > 2) this.#control(frame);
      else {
        if (frame.code !== 0) this.#message = [];
        this.#message.push(frame.payload);
        if (frame.code === TEXT) this.textual = true;
        else if (frame.code === 2) this.textual = false;
        if (frame.final) {
          const text = Buffer.concat(this.#message).toString("utf8");
          this.heard(this.textual ? { text } : { binary: text });
        }
      }
    }
  }

  #control({ code, payload }) {
    if (code !== CLOSE) return;
    const known = payload.length >= 2;
    this.heard({
      close: { code: known ? payload.readUInt16BE(0) : 1005, reason: payload.subarray(2).toString("utf8") },
    });
  }

  #next() {
    const bytes = this.#bytes;
    if (bytes.length < 2) return undefined;
    let at = 2;
    let length = bytes[1] & 0x7f;
    if (length === 126) {
      if (bytes.length < 4) return undefined;
      length = bytes.readUInt16BE(2);
      at = 4;
    } else if (length === 127) {
      if (bytes.length < 10) return undefined;
      length = Number(bytes.readBigUInt64BE(2));
      at = 10;
    }
    const masked = (bytes[1] & 0x80) !== 0;
    const mask = masked ? bytes.subarray(at, at + 4) : undefined;
    if (masked) at += 4;
    if (bytes.length < at + length) return undefined;
    const payload = Buffer.from(bytes.subarray(at, at + length));
    if (masked) for (let index = 0; index < length; index += 1) payload[index] ^= mask[index % 4];
    this.#bytes = bytes.subarray(at + length);
    if ((bytes[0] & 0x70) !== 0) throw new Error("a compressed or otherwise extended frame");
    return { final: (bytes[0] & 0x80) !== 0, code: bytes[0] & 0x0f, payload };
  }
}
