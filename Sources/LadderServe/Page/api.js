// Requests to the server: its key, its errors in words, and answers as they stream.

const KEY = "ladder-key";
let asking = null; // the question for a key, shared by all requests that wait for it
let declined = false; // the user closed that question
let ask = async () => null;

export class ServerError extends Error {
  constructor(message, { status = 0, code = null, param = null } = {}) {
    super(message);
    Object.assign(this, { status, code, param });
  }
}

// `question(wrong)` resolves to a key, or to null; `wrong` says that the last one was refused.
export function askForKeyWith(question) {
  ask = question;
}

export function askAgain() {
  declined = false;
}

export const isAbort = (error) => error?.name === "AbortError";

async function send(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers };
  if (key) headers.Authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options, headers });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ServerError("The server does not answer. Is it still running?");
  }
  if (response.status === 401 && (await keyAfter(key))) return send(path, options);
  if (!response.ok) throw await errorOf(response);
  return response;
}

// Whether there is a key to try after `used` was refused.
async function keyAfter(used) {
  if (sessionStorage.getItem(KEY) !== used) return true; // another request has asked meanwhile
  if (declined) return false;
  asking ??= ask(used !== null).then((key) => {
    asking = null;
    declined = key === null;
    if (key !== null) sessionStorage.setItem(KEY, key);
    return key !== null;
  });
  return asking;
}

async function errorOf(response) {
  const { status } = response;
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch {
    // not JSON: the status has to do
  }
  const message = error.message ?? `The server answered ${status} ${response.statusText}`.trim();
  return new ServerError(message, { status, code: error.code, param: error.param });
}

export async function getJSON(path, signal) {
  const response = await send(path, { signal });
  try {
    return await response.json();
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ServerError("The server's answer broke off.");
  }
}

// The chunks of a streamed answer, as objects; throws where the connection breaks before [DONE].
export async function* stream(path, body, signal) {
  const broken = () => new ServerError("The connection broke before the answer was complete.");
  const response = await send(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let read;
    try {
      read = await reader.read();
    } catch (error) {
      if (signal.aborted) throw new DOMException("stopped", "AbortError");
      throw broken();
    }
    if (read.done) throw broken();
    const lines = (rest + read.value).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice(5).trim();
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ServerError(chunk.error.message, chunk.error);
      yield chunk;
    }
  }
}
