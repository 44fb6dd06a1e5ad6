// One tab without a browser: wsmanager.js in Node. Says on stdout, a line of JSON each, all that
// the client tells it; evaluates the lines of JavaScript it is given on stdin.
// Arguments: the module, the URL, options as JSON.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [path, url, options] = process.argv.slice(2);
const module = await import(pathToFileURL(path));
const tell = (kind, value) => process.stdout.write(JSON.stringify({ kind, value }) + "\n");

function open(url, options = {}) {
  const client = module.connect(url, {
    onState: (state) => tell("state", state),
    onClose: (info) => tell("close", info),
    onResumed: (info) => tell("resumed", info),
    onGap: (gap) => tell("gap", gap),
    onOther: (data) => tell("other", String(data)),
    onError: (error) => tell("error", String(error)),
    ...options,
  });
  client.on("*", (event, { replayed }) => tell("event", { ...event, replayed, position: client.position }));
  return client;
}

globalThis.module = module;
globalThis.tell = tell;
globalThis.open = open;
if (url) globalThis.client = open(url, JSON.parse(options ?? "{}"));
for await (const line of createInterface({ input: process.stdin })) {
  try {
    const value = await (0, eval)(JSON.parse(line));
    tell("result", JSON.stringify(value) === undefined ? null : value);
  } catch (error) {
    tell("failed", String(error));
  }
}
process.exit(0);
