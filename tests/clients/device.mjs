// A device of its own that signs as the protocol asks: what a phone or a node would be, as small as it can be.

import { createHash, generateKeyPairSync, sign } from "node:crypto";

/** A device and its key. */
export class Device {
  #key;

  constructor(name) {
    const { publicKey, privateKey } = generateKeyPairSync("ed25519");
    const raw = Buffer.from(publicKey.export({ format: "jwk" }).x, "base64url");
    this.name = name;
    this.id = createHash("sha256").update(raw).digest("hex");
    this.publicKey = raw.toString("base64url");
    this.#key = privateKey;
  }

  /**
   * Connects; a connection, or the error it was refused with as `{error}`. With an `origin` it is a page, which nobody lets in
   * without asking.
   */
  async connect(url, { auth = {}, role = "operator", scopes = [], origin, more = {} }) {
    const socket = new WebSocket(url, origin ? { headers: { origin } } : {});
    const connection = new Connection(socket);
    const { payload } = await connection.event("connect.challenge");
    const client =
      role === "node" ? { id: "node-host", mode: "node" } : { id: "openclaw-ios", mode: "ui" };
    const signedAt = Date.now();
    const token = auth.token ?? auth.deviceToken ?? "";
    const said = ["v2", this.id, client.id, client.mode, role, scopes.join(","), signedAt, token, payload.nonce].join("|");
    const answer = await connection.ask("connect", {
      minProtocol: 3,
      maxProtocol: 4,
      client: { ...client, version: "1", platform: "linux", displayName: this.name },
      role,
      scopes,
      auth,
      device: {
        id: this.id,
        publicKey: this.publicKey,
        signature: sign(null, Buffer.from(said), this.#key).toString("base64url"),
        signedAt,
        nonce: payload.nonce,
      },
      ...more,
    });
    if (!answer.ok) return { error: answer.error };
    connection.hello = answer.payload;
    return connection;
  }
}

/** A connection that hears everything. */
class Connection {
  #heard = [];
  #waiting = [];
  #last = 0;

  constructor(socket) {
    this.socket = socket;
    socket.addEventListener("message", ({ data }) => this.#hear(JSON.parse(data)));
    const ended = () => this.#hear({ type: "end" });
    socket.addEventListener("close", ended);
    socket.addEventListener("error", ended);
  }

  #hear(frame) {
    const at = this.#waiting.findIndex(({ wanted }) => frame.type === "end" || wanted(frame));
    if (at < 0) return this.#heard.push(frame);
    const [{ resolve, reject }] = this.#waiting.splice(at, 1);
    if (frame.type !== "end") return resolve(frame);
    reject(new Error("the connection ended"));
    if (this.#waiting.length > 0) this.#hear(frame);
  }

  #next(wanted) {
    const at = this.#heard.findIndex((frame) => frame.type === "end" || wanted(frame));
    if (at < 0) return new Promise((resolve, reject) => this.#waiting.push({ wanted, resolve, reject }));
    if (this.#heard[at].type === "end") return Promise.reject(new Error("the connection ended"));
    return Promise.resolve(this.#heard.splice(at, 1)[0]);
  }

  /** The next event of that name. */
  event(name) {
    return this.#next((frame) => frame.type === "event" && frame.event === name);
  }

  /** The response to a request. */
  ask(method, params = {}) {
    this.#last += 1;
    const id = `d${this.#last}`;
    this.socket.send(JSON.stringify({ type: "req", id, method, params }));
    return this.#next((frame) => frame.type === "res" && frame.id === id);
  }

  close() {
    this.socket.close();
  }
}
