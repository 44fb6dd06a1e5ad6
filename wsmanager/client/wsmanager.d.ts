/** Types of wsmanager.js. Times are milliseconds unless a name or a comment says otherwise. */

/**
 * One event, in the envelope the server is configured for; the default one is shown.
 * The types "resumed", "gap", "ping" and "pong" are the connection's own: they are not delivered.
 */
export interface WSEvent<Payload = any> {
  type: string;
  payload: Payload;
  /** "<epoch>:<number>", the same on every connection of the user. */
  id?: string;
  user_id?: string | null;
  thread_id?: string | null;
  run_id?: string | null;
  timestamp?: string;
  agent_name?: string;
  tool_name?: string;
  /** The server waits for an acknowledgement. */
  ack?: true;
  [field: string]: unknown;
}

export interface Delivery {
  /** It was emitted while this page was away, and is delivered now. */
  replayed: boolean;
}

export type EventHandler<Payload = any> = (event: WSEvent<Payload>, delivery: Delivery) => void | Promise<unknown>;

/** "waiting": for the next attempt. "closed": for good. */
export type State = "connecting" | "open" | "waiting" | "closed";

/** What a close code and its reason ask of the client. */
export interface CloseInfo {
  code: number;
  reason: string;
  name: string;
  /** Whether it connects again. */
  reconnect: boolean;
  /** Seconds to wait first, as the reason or the table says; null: as the backoff says. */
  retryAfter: number | null;
}

/** The same, with the time in milliseconds until the next attempt; null if there is none. */
export interface Closed extends CloseInfo {
  delay: number | null;
}

/** The server's answer to the position the connection was opened with. */
export interface Resumed {
  /** Exactly the events missed since that position follow, and nothing is lacking. */
  recovered: boolean;
  /** How many they are. */
  replayed: number;
  /** Where the server stands now. */
  position: string;
  reason: string | null;
}

/** Events this page will not get: load what it shows anew, from where the application keeps it. */
export interface Gap {
  /** "dropped": this connection was too slow for them; otherwise why the server could not resume. */
  reason: string | null;
  /** How many; null: not known. */
  dropped: number | null;
  /** Ids of the first and the last dropped; after a failed resume, the positions before and after. */
  first: string;
  last: string;
}

export interface Heartbeat {
  /** Silence after which the other side is asked; below the 60 s of common proxies. Default 25000. */
  interval?: number;
  /** How long an answer may take before the link is given up. Default 10000. */
  timeout?: number;
  /** Ask with {"type":"ping"}; false: the server sends its own. Default true. */
  send?: boolean;
}

export interface Options {
  /** Sub-protocols, as of the WebSocket constructor. */
  protocols?: string | string[];
  /** How the position is told: in the URL (default), as the first message, or not at all. */
  resume?: "query" | "message" | "none";
  /** Its name in the URL. Default "resume". */
  resumeParam?: string;
  /** Where to begin, instead of what the storage has. */
  position?: string;
  /**
   * Where the position outlives the page, such as sessionStorage. Only for pages that
   * keep what they show as well: after a reload, events from before do not come again.
   */
  storage?: Pick<Storage, "getItem" | "setItem"> | null;
  /** Its key there; give each user and stream its own. Default "wsmanager.position". */
  storageKey?: string;
  /** The wait before attempt n is random, up to minDelay * 2 ** n and at most maxDelay. Default 500. */
  minDelay?: number;
  /** Default 30000. */
  maxDelay?: number;
  /** A connection that held so long starts the backoff anew. Default 5000. */
  stableAfter?: number;
  /** Attempts in a row before it ends. Default Infinity. */
  maxAttempts?: number;
  /** Default 15000. */
  connectTimeout?: number;
  /** false: none, for a server that does not answer pings. */
  heartbeat?: Heartbeat | false;
  /** How many ids are remembered; more than the server's journal holds for a user. Default 2048. */
  dedupeWindow?: number;
  /** Acknowledge events that ask for it once their handlers have succeeded. Default true. */
  autoAck?: boolean;
  /** The class to connect with, where there is no global one. */
  WebSocket?: any;
  /**
   * The first message of each connection, such as a token; undefined: none. Not a promise: what has
   * to be waited for is the URL function's to get. If it fails, the connection is given up as lost.
   */
  hello?: () => string | (object & { then?: never }) | undefined;
  /** Has the last word on whether to connect again; undefined: as the table of close codes says. */
  shouldReconnect?: (info: Closed) => boolean | undefined;
  onState?: (state: State) => void;
  /** A connection has ended, or could not be made. */
  onClose?: (info: Closed) => void;
  onResumed?: (info: Resumed) => void;
  onGap?: (gap: Gap) => void;
  /** A message that is no event: text of the application's own, or binary data. */
  onOther?: (data: any) => void;
  /** An error of a handler, of the URL function, hello or the storage. Default: reportError or console.error. */
  onError?: (error: unknown) => void;
}

/** ws(s) or http(s), absolute or relative to the page; a function is asked before each attempt. */
export type Url = string | URL | (() => string | URL | Promise<string | URL>);

/** The stream of one user's events. It connects at once, and until close() is called. */
export class WSManagerClient implements AsyncIterable<WSEvent> {
  /** @throws TypeError if url is not a URL */
  constructor(url: Url, options?: Options);
  readonly state: State;
  /** That of the last event delivered, "<epoch>:<number>"; "" before the server named one. */
  readonly position: string;
  /** Call a function with each event of a type, or of every type ("*"); gives what undoes it. */
  on<Payload = any>(type: string, handler: EventHandler<Payload>): () => void;
  /** Send a text, or anything else as JSON; false if there is no open connection to take it. */
  send(message: string | object): boolean;
  /** Acknowledge an event; needed only with autoAck: false. */
  ack(event: WSEvent): void;
  /**
   * End it for good.
   * @throws RangeError if code is not one a page may send, 1000 or 3000 to 4999; nothing has changed then
   * @throws DOMException of the WebSocket class, likewise, if reason is longer than 123 bytes of UTF-8
   */
  close(code?: number, reason?: string): void;
  /** The events from now on; one that lets more than limit (10000) of them wait throws. */
  events(limit?: number): AsyncIterableIterator<WSEvent>;
  [Symbol.asyncIterator](): AsyncIterableIterator<WSEvent>;
}

/** Open a stream of events. @throws TypeError if url is not a URL */
export function connect(url: Url, options?: Options): WSManagerClient;

/** What a close code and its reason ask of a client. */
export function closeInfo(code: number, reason?: string): CloseInfo;

/** Code: name, whether to connect again, and the seconds to wait first. */
export const CLOSE_CODES: Readonly<Record<number, readonly [name: string, reconnect: boolean, retryAfter?: number]>>;
