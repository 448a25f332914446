// <moda-face>: a live head in any web page.
//
//   <script type="module" src="https://talk.example.org/page/face.js"></script>
//   <moda-face portrait="anna" poster="anna.jpg"></moda-face>
//
// Attributes: server (that of this script), key, portrait, poster, muted, transparent.
// Methods: start(), stop(), say(text, options), listen(), send(pcm), interrupt(), express(...).
// Events: started, speaking, silent, interrupted, status, error, ended, as the server tells them.
import { LiveSession } from "./client.js";
import { Player } from "./player.js";

const RATE = 24000;
const PASSED_ON = ["started", "waiting", "speaking", "silent", "interrupted", "status", "error", "ended"];
const STYLE = `
  :host { display: inline-block; position: relative; width: 20rem; max-width: 100%; }
  :host([hidden]) { display: none; }
  canvas { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: .6rem;
    background: #0c0d0e center / contain no-repeat; }
  :host([transparent]) canvas { background-color: transparent; }
  p { position: absolute; margin: 0; padding: .1rem .5rem; border-radius: .3rem; color: #fff;
    background: #241d16; font: .75rem/1.5 system-ui, sans-serif; }
  .tag { left: .6rem; bottom: .6rem; }
  .state { left: .6rem; top: .6rem; }
  .state:empty { display: none; }
  button { position: absolute; inset: 0; width: 100%; border: 0; border-radius: .6rem; padding: 0;
    background: transparent; cursor: pointer; display: grid; place-items: center; }
  button[hidden] { display: none; }
  button:focus-visible { outline: 3px solid #ef8d67; outline-offset: -3px; }
  span { padding: .5rem 1rem; border-radius: 2rem; background: #a63a1c; color: #fffaf4;
    font: 600 1rem/1.5 system-ui, sans-serif; }
`;
const CONTENT = `
  <canvas width="512" height="512" role="img" aria-label="A talking portrait"></canvas>
  <button type="button"><span>Start</span></button>
  <p class="state" role="status"></p>
  <p class="tag">Synthetic</p>
`;

class ModaFace extends HTMLElement {
  static observedAttributes = ["poster", "muted"];

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    const style = new CSSStyleSheet();
    style.replaceSync(STYLE);
    root.adoptedStyleSheets = [style];
    root.innerHTML = CONTENT;
    this.canvas = root.querySelector("canvas");
    this.button = root.querySelector("button");
    this.state = root.querySelector(".state");
    this.button.onclick = () => this.start().catch(() => {}); // the picture says why
  }

  disconnectedCallback() {
    this.stop();
  }

  attributeChangedCallback(name) {
    if (name === "muted" && this.player) this.player.setAudible(!this.hasAttribute("muted"));
    if (name === "poster") this.#showPoster(this.getAttribute("poster"));
  }

  #showPoster(address) {
    this.canvas.style.backgroundImage = address ? `url(${JSON.stringify(address)})` : "";
  }

  get server() {
    return new URL(this.getAttribute("server") || import.meta.url, document.baseURI);
  }

  // Begin; resolves when the face is there. Browsers allow sound after a click or a key only.
  start() {
    this.starting ||= this.#start().catch((error) => {
      this.stop(error.message);
      throw error;
    });
    return this.starting;
  }

  async #start() {
    this.button.hidden = true;
    this.state.textContent = "Connecting";
    this.context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
    this.context.resume();
    this.player = new Player(this.context, this.canvas);
    await this.player.open();
    this.player.setAudible(!this.hasAttribute("muted"));
    const session = new LiveSession(this.server, {
      key: this.getAttribute("key") || "",
      portrait: this.getAttribute("portrait"),
      sample_rate: RATE,
      pace: "realtime",
      picture: this.hasAttribute("transparent") ? "webp" : "jpeg",
    });
    this.session = session;
    for (const type of PASSED_ON) {
      session.addEventListener(type, ({ detail }) => {
        this.dispatchEvent(new CustomEvent(type, { detail }));
      });
    }
    session.addEventListener("waiting", () => { this.state.textContent = "Waiting for a place"; });
    session.addEventListener("error", ({ detail }) => { this.state.textContent = detail.message; });
    session.addEventListener("frame", ({ detail }) => this.player?.take(detail));
    session.addEventListener("interrupted", ({ detail }) => this.player.silence(detail.frame));
    return new Promise((resolve, reject) => {
      session.addEventListener("started", ({ detail }) => {
        this.state.textContent = "";
        if (this.hasAttribute("transparent")) this.#showPoster(null); // it would shine through
        resolve(detail);
      });
      session.addEventListener("close", ({ detail }) => {
        const problem = detail.code === 1000 ? "" : detail.reason || "The connection broke.";
        if (this.session === session) this.stop(problem);
        reject(new Error(problem || "It has ended."));
      });
    });
  }

  stop(problem = "") {
    const { session, player, context, microphone } = this;
    this.session = this.player = this.context = this.microphone = this.starting = null;
    session?.close();
    player?.close();
    context?.close();
    microphone?.getTracks().forEach((track) => track.stop());
    this.button.hidden = false;
    this.state.textContent = problem;
  }

  // Have the server speak a text; options are language, voice and rate.
  async say(text, options = {}) {
    await this.start();
    this.session.say(text, options);
  }

  // The head says what the visitor says.
  async listen() {
    await this.start();
    this.microphone = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true } });
    await this.context.audioWorklet.addModule(new URL("./recorder.js", import.meta.url));
    const recorder = new AudioWorkletNode(this.context, "recorder");
    recorder.port.onmessage = ({ data }) => this.session?.send(data);
    this.context.createMediaStreamSource(this.microphone).connect(recorder);
    recorder.connect(new GainNode(this.context, { gain: 0 })).connect(this.context.destination);
  }

  // 16-bit mono PCM at 24 kHz, at the pace in which it is spoken.
  send(pcm) {
    this.session?.send(pcm);
  }

  interrupt() {
    this.session?.interrupt();
  }

  express(emotion, intensity = 1) {
    this.session?.express(emotion, intensity);
  }
}

customElements.define("moda-face", ModaFace);
