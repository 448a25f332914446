// The demo page: a microphone or a file in, the talking portrait out.
import { LiveSession } from "./client.js";
import { Player } from "./player.js";

const RATE = 24000;
const FILE_LEAD_SECONDS = 1;
const at = (id) => document.getElementById(id);
let session = null;
let info = null;

function headers() {
  const key = at("key").value.trim();
  return key ? { authorization: `Bearer ${key}` } : {};
}

function tell(state, text) {
  at("state").dataset.state = state;
  at("state").textContent = text;
}

function complain(text) {
  at("problem").hidden = !text;
  at("problem").textContent = text || "";
}

function startMessage() {
  const emotion = at("emotion").value;
  return {
    portrait: at("portrait").value || null,
    seed: Math.max(0, Math.trunc(Number(at("seed").value)) || 0),
    emotion: emotion || null,
    intensity: Number(at("intensity").value),
  };
}

async function readInfo() {
  const answer = await fetch("/v1/info", { headers: headers() });
  if (answer.status === 401) {
    at("key-row").hidden = false;
    throw new Error("This server wants an API key.");
  }
  if (!answer.ok) throw new Error(`The server says ${answer.status}.`);
  info = await answer.json();
  fill("portrait", info.portraits);
  fill("emotion", info.emotions, true);
  for (const option of at("transport").options) {
    if (option.value === "peer") option.disabled = !info.has_webrtc;
  }
  if (!info.portraits.length) throw new Error("This server has no portrait to speak live.");
}

// Browsers do not say why a connection was refused; the server does.
async function whyClosed() {
  try {
    const answer = await fetch("/v1/info", { headers: headers() });
    if (answer.status === 401) return "This server wants another API key.";
    if (answer.ok && !(await answer.json()).free_sessions) {
      return "All sessions are taken; try again in a moment.";
    }
    return "The connection broke; press Start to try again.";
  } catch {
    return "The server cannot be reached.";
  }
}

// The portrait waits alive before a session begins.
async function showPreview() {
  const name = at("portrait").value;
  if (session || !name) return;
  const path = `/v1/live/portraits/${encodeURIComponent(name)}/preview`;
  const answer = await fetch(path, { headers: headers() });
  if (!answer.ok || session) return;
  URL.revokeObjectURL(at("preview").src);
  at("preview").src = URL.createObjectURL(await answer.blob());
  at("preview").hidden = false;
}

function fill(id, names, keepFirst = false) {
  const select = at(id);
  const chosen = select.value;
  select.replaceChildren(...[...select.options].slice(0, keepFirst ? 1 : 0));
  for (const name of names) select.add(new Option(name, name));
  if (names.includes(chosen)) select.value = chosen;
}

// Where the voice comes from: an audio node, and for a file its samples as well.
async function openSource(context) {
  if (at("source").value === "file") {
    const file = at("file").files[0];
    if (!file) throw new Error("Choose a sound file first.");
    let sound;
    try {
      sound = await context.decodeAudioData(await file.arrayBuffer());
    } catch {
      throw new Error("This file cannot be read as sound.");
    }
    const mono = new Float32Array(sound.length);
    for (let channel = 0; channel < sound.numberOfChannels; channel++) {
      const values = sound.getChannelData(channel);
      for (let k = 0; k < mono.length; k++) mono[k] += values[k] / sound.numberOfChannels;
    }
    return { sound, mono, close() {} };
  }
  if (!navigator.mediaDevices) {
    throw new Error("The browser gives its microphone to localhost and https pages only.");
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    });
  } catch (error) {
    throw new Error(`No microphone: ${error.message}`);
  }
  return { stream, close: () => stream.getTracks().forEach((track) => track.stop()) };
}

class SocketSession {
  async open() {
    this.context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
    await this.context.resume();
    this.source = await openSource(this.context);
    at("video").hidden = true;
    at("canvas").hidden = false;
    this.player = new Player(this.context, at("canvas"));
    await this.player.open();
    this.player.setAudible(at("hear").checked);
    this.session = new LiveSession(location.href, {
      key: at("key").value.trim(),
      sample_rate: RATE,
      pace: this.source.mono ? "ahead" : "realtime",
      ...startMessage(),
    });
    this.session.addEventListener("frame", async ({ detail }) => {
      at("frame").textContent = (await this.player.take(detail)).number;
    });
    this.session.addEventListener("started", () => this.send());
    this.session.addEventListener("interrupted", ({ detail }) => this.player.silence(detail.frame));
    for (const type of ["waiting", "started", "speaking", "silent", "interrupted", "status", "error"]) {
      this.session.addEventListener(type, ({ detail }) => showEvent(detail));
    }
    this.session.addEventListener("close", async ({ detail }) => {
      const normal = detail.code === 1000 || this.isClosed;
      stop(normal ? "" : detail.reason || (await whyClosed()));
    });
  }

  async send() {
    if (this.source.mono) {
      this.sendFile();
      return;
    }
    await this.context.audioWorklet.addModule("/page/recorder.js");
    const recorder = new AudioWorkletNode(this.context, "recorder");
    recorder.port.onmessage = ({ data }) => this.session.send(data);
    this.context.createMediaStreamSource(this.source.stream).connect(recorder);
    recorder.connect(new GainNode(this.context, { gain: 0 })).connect(this.context.destination);
  }

  sendFile() {
    const { mono } = this.source;
    const begun = performance.now();
    let sent = 0;
    this.timer = setInterval(() => {
      const due = ((performance.now() - begun) / 1000 + FILE_LEAD_SECONDS) * RATE;
      const end = Math.min(mono.length, Math.floor(due));
      if (end > sent) {
        const piece = Int16Array.from(mono.subarray(sent, end), (value) =>
          Math.max(-32768, Math.min(32767, Math.round(value * 32767))));
        this.session.send(piece.buffer);
        sent = end;
      }
      if (sent === mono.length) clearInterval(this.timer);
    }, 40);
  }

  interrupt() {
    clearInterval(this.timer);
    this.session.interrupt();
  }

  express(emotion, intensity) {
    this.session.express(emotion, intensity);
  }

  setAudible(isAudible) {
    this.player.setAudible(isAudible);
  }

  close() {
    this.isClosed = true;
    clearInterval(this.timer);
    if (this.session) this.session.close();
    if (this.player) this.player.close();
    if (this.source) this.source.close();
    if (this.context) this.context.close();
  }
}

class PeerSession {
  async open() {
    this.context = new AudioContext();
    await this.context.resume();
    this.source = await openSource(this.context);
    let stream = this.source.stream;
    if (this.source.sound) {
      const outlet = this.context.createMediaStreamDestination();
      this.player = new AudioBufferSourceNode(this.context, { buffer: this.source.sound });
      this.player.connect(outlet);
      stream = outlet.stream;
    }
    this.peer = new RTCPeerConnection({ iceServers: info.ice_servers });
    this.channel = this.peer.createDataChannel("control");
    this.channel.onmessage = ({ data }) => showEvent(JSON.parse(data));
    this.channel.onopen = () => {
      showEvent({ type: "started", look_ahead_seconds: 0.24 });
      if (this.player) this.player.start();
    };
    this.peer.addTrack(stream.getAudioTracks()[0], stream);
    this.peer.addTransceiver("video", { direction: "recvonly" });
    const incoming = new MediaStream();
    this.peer.ontrack = ({ track }) => {
      incoming.addTrack(track);
      at("video").srcObject = incoming;
    };
    this.peer.onconnectionstatechange = () => {
      if (["failed", "disconnected"].includes(this.peer.connectionState)) {
        stop("The WebRTC connection broke; a TURN server may be needed between networks.");
      }
    };
    at("canvas").hidden = true;
    at("video").hidden = false;
    this.setAudible(at("hear").checked);
    await this.peer.setLocalDescription();
    await this.gathered();
    const answer = await fetch("/v1/live/offer", {
      method: "POST",
      headers: { "content-type": "application/json", ...headers() },
      body: JSON.stringify({ ...this.peer.localDescription.toJSON(), start: startMessage() }),
    });
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.detail || `The server says ${answer.status}.`);
    this.identifier = body.id;
    await this.peer.setRemoteDescription({ type: "answer", sdp: body.sdp });
  }

  gathered() {
    return new Promise((done) => {
      const check = () => this.peer.iceGatheringState === "complete" && done();
      this.peer.onicegatheringstatechange = check;
      setTimeout(done, 2000);
      check();
    });
  }

  say(message) {
    if (this.channel.readyState === "open") this.channel.send(JSON.stringify(message));
  }

  interrupt() {
    if (this.player) this.player.stop();
    this.say({ type: "interrupt" });
  }

  express(emotion, intensity) {
    this.say({ type: "emotion", emotion, intensity });
  }

  setAudible(isAudible) {
    at("video").muted = !isAudible;
  }

  close() {
    if (this.peer) this.peer.close();
    if (this.source) this.source.close();
    if (this.context) this.context.close();
    at("video").srcObject = null;
    if (this.identifier) {
      const options = { method: "DELETE", headers: headers(), keepalive: true };
      fetch(`/v1/live/${this.identifier}`, options).catch(() => {});
    }
  }
}

function showEvent(event) {
  if (event.type === "waiting") tell("waiting", "All sessions are taken; waiting for one");
  if (event.type === "started") {
    tell("silent", "Connected, listening");
    at("late").textContent = `${event.look_ahead_seconds} s`;
    at("figures").hidden = false;
    at("interrupt").disabled = false;
  }
  if (event.type === "speaking") tell("speaking", "Speaking");
  if (event.type === "silent" || event.type === "interrupted") tell("silent", "Listening");
  if (event.type === "status") {
    at("frame").textContent = event.frames;
    at("queued").textContent = `${event.queued_seconds.toFixed(1)} s`;
    at("undrawn").textContent = event.undrawn_frames;
  }
  if (event.type === "error") complain(event.message);
}

async function start() {
  complain("");
  at("start").disabled = true;
  tell("waiting", "Connecting");
  try {
    await readInfo();
    session = at("transport").value === "peer" ? new PeerSession() : new SocketSession();
    await session.open();
    at("start").textContent = "Stop";
    at("preview").hidden = true;
  } catch (error) {
    stop(error.message);
  }
  at("start").disabled = false;
}

function stop(problem = "") {
  const old = session;
  session = null;
  if (old) old.close();
  at("start").textContent = "Start";
  at("interrupt").disabled = true;
  tell("idle", "Not connected");
  if (problem) complain(problem);
  showPreview().catch(() => {});
}

at("start").onclick = () => (session ? stop() : start());
at("interrupt").onclick = () => session && session.interrupt();
at("hear").onchange = () => session && session.setAudible(at("hear").checked);
at("source").onchange = () => {
  const isFile = at("source").value === "file";
  at("file-row").hidden = !isFile;
  at("hear").checked = isFile;
};
for (const id of ["emotion", "intensity"]) {
  at(id).onchange = () =>
    session && session.express(at("emotion").value || null, Number(at("intensity").value));
}
at("portrait").onchange = () => showPreview().catch(() => {});
at("key").onchange = () => readInfo().then(showPreview).catch((error) => complain(error.message));
window.addEventListener("pagehide", () => stop());
readInfo().then(showPreview).catch((error) => complain(error.message));
