// A client of `moda serve`, for web pages and for Node from 22 on: videos on request, live sessions.

export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status; // of HTTP, or the code with which a WebSocket was closed
  }
}

export class VideoClient {
  constructor(server, { key = "" } = {}) {
    this.server = server;
    this.headers = key ? { authorization: `Bearer ${key}` } : {};
  }

  // Ask for a video; its status. `form` has portrait, speech (Blobs) or text, and options.
  async request(form, { idempotencyKey = "" } = {}) {
    const body = new FormData();
    for (const [name, value] of Object.entries(form)) {
      if (value !== null && value !== undefined) body.append(name, value);
    }
    const headers = idempotencyKey ? { "idempotency-key": idempotencyKey } : {};
    return (await this.ask("POST", "/v1/videos", { body, headers })).json();
  }

  async list() {
    return (await (await this.ask("GET", "/v1/videos")).json()).videos;
  }

  async status(id) {
    return (await this.ask("GET", `/v1/videos/${id}`)).json();
  }

  // Statuses as they change, until the video is over.
  async *watch(id) {
    const answer = await this.ask("GET", `/v1/videos/${id}/events`);
    let text = "";
    for await (const piece of answer.body.pipeThrough(new TextDecoderStream())) {
      const events = (text + piece).split("\n\n");
      text = events.pop();
      for (const event of events) {
        const data = event.split("\n").find((line) => line.startsWith("data: "));
        if (data) yield JSON.parse(data.slice(6));
      }
    }
  }

  // The MP4 of a video that is done.
  async result(id) {
    return (await this.ask("GET", `/v1/videos/${id}/result`)).blob();
  }

  async remove(id) {
    await this.ask("DELETE", `/v1/videos/${id}`);
  }

  // Ask for a video, wait for it, fetch it and remove it from the server.
  async make(form, { onProgress = () => {} } = {}) {
    const { id } = await this.request(form);
    try {
      for await (const status of this.watch(id)) {
        if (status.state === "failed") throw new ServerError(status.error);
        onProgress(status.progress);
      }
      return await this.result(id);
    } finally {
      await this.remove(id);
    }
  }

  // A portrait for live sessions of one's own; its name.
  async bringPortrait(picture) {
    const body = new FormData();
    body.append("portrait", picture);
    return (await (await this.ask("POST", "/v1/live/portraits", { body })).json()).portrait;
  }

  async ask(method, path, { body, headers = {} } = {}) {
    const answer = await fetch(new URL(path, this.server), {
      method,
      body,
      headers: { ...this.headers, ...headers },
    });
    if (!answer.ok) {
      const said = await answer.json().catch(() => ({}));
      throw new ServerError(said.detail || `The server says ${answer.status}.`, answer.status);
    }
    return answer;
  }
}

// One live session. Its events have the types of the server's messages, which are their `detail`;
// `frame` has the bytes of a frame, and `close` comes last, with `code` and `reason`.
export class LiveSession extends EventTarget {
  constructor(server, { key = "", ...start } = {}) {
    super();
    const address = new URL("/v1/live", server);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(address, key ? ["moda.v1", `moda.key.${key}`] : ["moda.v1"]);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => this.tell({ type: "start", ...start });
    this.socket.onmessage = ({ data }) => {
      if (typeof data !== "string") return this.#report("frame", data);
      const event = JSON.parse(data);
      this.#report(event.type, event);
    };
    this.socket.onclose = ({ code, reason }) => this.#report("close", { code, reason });
  }

  #report(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  // 16-bit mono PCM at the session's rate.
  send(pcm) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(pcm);
  }

  tell(message) {
    this.send(JSON.stringify(message));
  }

  // Have a text spoken by the server; options are language, voice and rate.
  say(text, options = {}) {
    this.tell({ type: "text", text, ...options });
  }

  interrupt() {
    this.tell({ type: "interrupt" });
  }

  express(emotion, intensity = 1) {
    this.tell({ type: "emotion", emotion, intensity });
  }

  // Nothing more comes: it is over when all has been spoken.
  end() {
    this.tell({ type: "end" });
  }

  close() {
    this.socket.close(1000);
  }
}
