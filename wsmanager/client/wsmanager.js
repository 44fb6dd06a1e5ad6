/**
 * The events of a wsmanager server: connects again, resumes where it was,
 * and gives every event to the page once and in order. No dependencies.
 *
 *   import { connect } from "./wsmanager.js";
 *   const client = connect("/ws");
 *   client.on("agent_started", (event) => show(event.payload));
 *
 * wsmanager.d.ts describes every option and member.
 */

/** Code: [name, reconnect, seconds to wait]; the rows of wsmanager/close_codes.py. */
export const CLOSE_CODES = {
  1000: ["normal closure", false],
  1001: ["going away", true],
  1002: ["protocol error", false],
  1003: ["unsupported data", false],
  1005: ["no status received", true],
  1006: ["abnormal closure", true],
  1007: ["invalid payload", false],
  1008: ["policy violation", false],
  1009: ["message too big", false],
  1010: ["mandatory extension", false],
  1011: ["internal error", true],
  1012: ["service restart", true],
  1013: ["try again later", true, 1],
  1014: ["bad gateway", true],
  1015: ["TLS handshake", true],
  3000: ["unauthorized", false],
  3003: ["forbidden", false],
  3008: ["timeout", true],
  4400: ["bad request", false],
  4401: ["unauthorized", false],
  4403: ["forbidden", false],
  4404: ["not found", false],
  4408: ["request timeout", true],
  4409: ["conflict", false],
  4410: ["gone", false],
  4413: ["content too large", false],
  4426: ["upgrade required", false],
  4429: ["too many requests", true, 30],
  4500: ["internal error", true],
  4503: ["service unavailable", true, 5],
  4504: ["gateway timeout", true],
};

const DEFAULTS = {
  protocols: [],
  resume: "query",
  resumeParam: "resume",
  position: "",
  storage: null,
  storageKey: "wsmanager.position",
  minDelay: 500,
  maxDelay: 30000,
  stableAfter: 5000,
  maxAttempts: Infinity,
  connectTimeout: 15000,
  heartbeat: { interval: 25000, timeout: 10000, send: true },
  dedupeWindow: 2048,
  autoAck: true,
};

const FAILED = Symbol("failed");

/** What a close code and its reason ask of the client. */
export function closeInfo(code, reason = "") {
  const row = CLOSE_CODES[code] ?? ["unknown", code < 4400 || code > 4499];
  const said = /\bretry-after=(\d{1,6}(?:\.\d{1,6})?)/.exec(reason);
  const seconds = said ? Number(said[1]) : row[2];
  return {
    code,
    reason,
    name: row[0],
    reconnect: row[1],
    retryAfter: seconds === undefined ? null : Math.min(seconds, 3600),
  };
}

/** Epoch and number of a position or an id, or null. */
function parse(position) {
  const found = /^([^:]+):(\d+)$/.exec(position ?? "");
  return found && { epoch: found[1], seq: Number(found[2]) };
}

export class WSManagerClient {
  #url;
  #options;
  #socket = null;
  #state = "connecting";
  #position; // the epoch and the number are one value: "<epoch>:<seq>"
  #asked = ""; // the position this connection was opened with
  #seen = new Set();
  #replays = 0; // how many events to come are replayed ones
  #handlers = new Map();
  #acks = new Set(); // given to a socket that may have been dead
  #pinged = []; // those of them that a pong will confirm
  #ends = new Set(); // of the iterators
  #attempt = 0;
  #openedAt = 0;
  #receivedAt = 0;
  #notBefore = 0;
  #waiting; // the timer of the next attempt, or of the one under way
  #beating;
  #probing;
  #wake = () => this.#look();

  constructor(url, options = {}) {
    const heartbeat = options.heartbeat === false ? false : { ...DEFAULTS.heartbeat, ...options.heartbeat };
    this.#url = url;
    this.#options = { ...DEFAULTS, ...options, heartbeat };
    const { storage, storageKey, position } = this.#options;
    const kept = position || this.#call(() => storage?.getItem(storageKey));
    this.#position = typeof kept === "string" ? kept : "";
    if (typeof url !== "function") this.#target(url);
    this.#listen("addEventListener");
    this.#connect();
  }

  get state() {
    return this.#state;
  }

  get position() {
    return this.#position;
  }

  /** Call a function with each event of a type, or of every type ("*"); gives what undoes it. */
  on(type, handler) {
    const list = this.#handlers.get(type) ?? [];
    this.#handlers.set(type, [...list, handler]);
    return () => {
      const left = this.#handlers.get(type).filter((one) => one !== handler);
      this.#handlers.set(type, left);
    };
  }

  /** Send a text, or anything else as JSON; false if there is no open connection to take it. */
  send(message) {
    if (this.#state !== "open") return false;
    this.#put(message);
    return true;
  }

  /** Tell the server that an event has been dealt with; done by itself unless autoAck is off. */
  ack(event) {
    this.#acks.delete(event.id);
    this.#acks.add(event.id);
    if (this.#acks.size > 256) this.#acks.delete(this.#acks.values().next().value);
    this.send({ type: "ack", id: event.id });
  }

  /** End it for good. */
  close(code = 1000, reason = "") {
    if (code !== 1000 && !(code >= 3000 && code < 5000)) throw new RangeError(`wsmanager: a page may not send ${code}`);
    if (this.#state === "closed") return;
    this.#socket?.close?.(code, reason); // throws if the reason is too long
    this.#drop();
    this.#end(closeInfo(code, reason));
  }

  /** The events as an async iterator; one that is left too far behind throws. */
  events(limit = 10000) {
    const queue = [];
    let ended = this.#state === "closed";
    let error = null;
    let waiter = null;
    const tell = () => {
      waiter?.();
      waiter = null;
    };
    const stop = (why = null) => {
      error ??= why;
      ended = true;
      off();
      this.#ends.delete(stop);
      tell();
    };
    const off = this.on("*", (event) => {
      if (queue.length >= limit) stop(new Error(`wsmanager: ${limit} events wait for their iterator`));
      else queue.push(event);
      tell();
    });
    this.#ends.add(stop);
    return {
      async next() {
        while (!queue.length && !ended) await new Promise((resolve) => (waiter = resolve));
        if (queue.length) return { done: false, value: queue.shift() };
        if (error) throw error;
        return { done: true, value: undefined };
      },
      async return() {
        queue.length = 0;
        stop();
        return { done: true, value: undefined };
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  [Symbol.asyncIterator]() {
    return this.events();
  }

  // -- connecting -------------------------------------------------------------

  async #connect() {
    const { protocols, connectTimeout } = this.#options;
    clearTimeout(this.#waiting);
    this.#set("connecting");
    const attempt = (this.#socket = {}); // until there is a socket
    let url = this.#url;
    try {
      if (typeof url === "function") url = await url();
    } catch (error) {
      if (this.#socket !== attempt) return;
      this.#error(error);
      return this.#lost(1006, "no URL to connect to");
    }
    if (this.#socket !== attempt) return;
    this.#asked = this.#position;
    let socket;
    try {
      socket = new (this.#options.WebSocket ?? WebSocket)(this.#target(url), protocols);
    } catch (error) {
      this.#error(error);
      this.#drop();
      return this.#end(closeInfo(1006, "not a URL to connect to"));
    }
    this.#socket = socket;
    const mine = (act) => (event) => this.#socket === socket && act(event);
    socket.onopen = mine(() => this.#opened(socket));
    socket.onmessage = mine((event) => this.#receive(event.data));
    socket.onclose = mine((event) => this.#lost(event.code, event.reason));
    // Some outside of browsers say nothing but this.
    socket.onerror = () => setTimeout(mine(() => this.#lost(1006, "")));
    this.#waiting = setTimeout(
      mine(() => this.#dead("no connection in time")),
      connectTimeout,
    );
  }

  #target(given) {
    const { resume, resumeParam } = this.#options;
    const url = new URL(given, globalThis.location?.href);
    url.protocol = url.protocol.replace("http", "ws");
    if (resume === "query") url.searchParams.set(resumeParam, this.#position);
    return url.href;
  }

  /** Open once the first messages are sent: none precedes them. */
  #opened(socket) {
    const { resume, hello } = this.#options;
    const failed = this.#call(() => {
      const first = this.#call(hello);
      if (first === FAILED) return first;
      if (first?.then) throw new TypeError("wsmanager: hello is a promise");
      if (first !== undefined) this.#put(first);
      if (resume === "message") this.#put({ type: "resume", position: this.#position });
    });
    if (this.#socket !== socket) return;
    if (failed) return this.#dead("no hello", 4500);
    clearTimeout(this.#waiting);
    this.#openedAt = this.#receivedAt = performance.now();
    this.#replays = 0;
    this.#set("open");
    for (const id of this.#acks) this.send({ type: "ack", id });
    this.#beat();
  }

  #put(message) {
    this.#socket?.send(typeof message === "string" ? message : JSON.stringify(message));
  }

  /** Let go of the socket; nothing it does is heeded any more. */
  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    clearTimeout(this.#waiting);
    clearTimeout(this.#beating);
    clearTimeout(this.#probing);
    this.#probing = undefined;
    return socket?.close ? socket : null;
  }

  /** A link that says nothing: a closing handshake would wait for it, so it is not waited for. */
  #dead(reason, code = 3008) {
    const socket = this.#drop();
    this.#lost(code, reason);
    socket.close(code, reason);
  }

  #lost(code, reason) {
    const { minDelay, maxDelay, stableAfter, maxAttempts, shouldReconnect } = this.#options;
    const wasOpen = this.#state === "open";
    this.#drop();
    if (wasOpen && performance.now() - this.#openedAt >= stableAfter) this.#attempt = 0;
    const info = { ...closeInfo(code, reason), delay: null };
    const said = this.#call(shouldReconnect, info);
    if (typeof said === "boolean") info.reconnect = said;
    info.reconnect &&= this.#attempt < maxAttempts;
    if (!info.reconnect) return this.#end(info);
    const least = (info.retryAfter ?? 0) * 1000;
    info.delay = least + Math.random() * Math.min(maxDelay, minDelay * 2 ** this.#attempt++);
    this.#notBefore = performance.now() + least;
    this.#waiting = setTimeout(() => this.#connect(), info.delay);
    this.#set("waiting");
    this.#call(this.#options.onClose, info);
  }

  #end(info) {
    this.#listen("removeEventListener");
    this.#set("closed");
    this.#call(this.#options.onClose, { ...info, reconnect: false, delay: null });
    for (const stop of [...this.#ends]) stop();
  }

  // -- what comes in ----------------------------------------------------------

  #receive(data) {
    this.#receivedAt = performance.now();
    let event;
    try {
      event = JSON.parse(data);
    } catch {
      event = null;
    }
    if (typeof event?.type !== "string") {
      const { onOther } = this.#options;
      return onOther ? this.#call(onOther, data) : this.#error(new TypeError("wsmanager: a message that is no event"));
    }
    const { type, payload } = event;
    if (type === "ping") this.send({ type: "pong" });
    else if (type === "pong") for (const id of this.#pinged) this.#acks.delete(id);
    else if (type === "resumed") this.#resumed(payload);
    else if (type === "gap") this.#call(this.#options.onGap, { reason: "dropped", ...payload });
    else return this.#take(event);
    this.#advance(event.id);
  }

  /** The position is that of the last event, whatever it was; true if it moved. */
  #advance(id) {
    const now = parse(this.#position);
    const next = parse(id);
    if (!next || (next.epoch === now?.epoch && next.seq <= now.seq)) return false;
    this.#position = id;
    return true;
  }

  /** Where the server could not go on from our position, we go on from its. */
  #resumed(info) {
    this.#replays = info.recovered ? info.replayed : 0;
    if (!info.recovered) this.#move(info.position);
    this.#call(this.#options.onResumed, info);
    if (!info.recovered && this.#asked) {
      this.#call(this.#options.onGap, { reason: info.reason, dropped: null, first: this.#asked, last: info.position });
    }
  }

  #take(event) {
    if (typeof event.id !== "string") return this.#deliver(event, false);
    const replayed = this.#replays > 0;
    if (replayed) this.#replays--;
    if (this.#seen.has(event.id)) {
      if (this.#acks.has(event.id)) this.ack(event); // the first one may have been lost
      return;
    }
    this.#seen.add(event.id);
    if (this.#seen.size > this.#options.dedupeWindow) this.#seen.delete(this.#seen.values().next().value);
    const moved = this.#advance(event.id);
    this.#deliver(event, replayed);
    if (moved) this.#store();
  }

  #deliver(event, replayed) {
    const handlers = [...(this.#handlers.get(event.type) ?? []), ...(this.#handlers.get("*") ?? [])];
    const results = handlers.map((handler) => this.#call(handler, event, { replayed }));
    if (!event.ack || !this.#options.autoAck || !handlers.length) return;
    Promise.all(results).then((all) => all.includes(FAILED) || this.ack(event));
  }

  /** The result of a function of the page's, or FAILED. */
  #call(callback, ...args) {
    const failed = (error) => {
      this.#error(error);
      return FAILED;
    };
    try {
      const result = callback?.(...args);
      return result?.then ? Promise.resolve(result).catch(failed) : result;
    } catch (error) {
      return failed(error);
    }
  }

  #error(error) {
    (this.#options.onError ?? globalThis.reportError ?? console.error)(error);
  }

  #move(position) {
    this.#position = position;
    this.#store();
  }

  #store() {
    const { storage, storageKey } = this.#options;
    this.#call(() => storage?.setItem(storageKey, this.#position));
  }

  #set(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.#call(this.#options.onState, state);
  }

  // -- is it still there? -----------------------------------------------------

  #beat() {
    const { heartbeat } = this.#options;
    clearTimeout(this.#beating);
    if (!heartbeat || this.#state !== "open") return;
    const idle = performance.now() - this.#receivedAt;
    if (idle >= heartbeat.interval) return this.#probe();
    this.#beating = setTimeout(() => this.#beat(), heartbeat.interval - idle);
  }

  /** Whatever arrives in time is an answer. */
  #probe() {
    const { heartbeat } = this.#options;
    if (!heartbeat || this.#probing || this.#state !== "open") return;
    const at = performance.now();
    this.#pinged = [...this.#acks];
    if (heartbeat.send) this.send({ type: "ping" });
    this.#probing = setTimeout(() => {
      this.#probing = undefined;
      if (this.#receivedAt < at) this.#dead("heartbeat timeout");
      else this.#beat();
    }, heartbeat.timeout);
  }

  #listen(method) {
    globalThis[method]?.("online", this.#wake);
    globalThis[method]?.("offline", this.#wake);
    globalThis.document?.[method]("visibilitychange", this.#wake);
  }

  /** The network or the page is back: no need to wait longer, unless the server said so. */
  #look() {
    if (globalThis.document?.visibilityState === "hidden") return;
    if (this.#state === "waiting" && globalThis.navigator?.onLine !== false && performance.now() >= this.#notBefore) {
      this.#connect();
    } else if (this.#options.heartbeat?.send) {
      this.#probe();
    }
  }
}

export function connect(url, options) {
  return new WSManagerClient(url, options);
}
