// Frames of the WebSocket: their sound to the speaker, their pictures to a canvas in its time.
const HEADER_BYTES = 20;

export function unpackFrame(buffer) {
  const view = new DataView(buffer);
  const jpegBytes = view.getUint32(12, true);
  const soundBytes = view.getUint32(16, true);
  return {
    number: view.getUint32(4, true),
    isSpeaking: (view.getUint32(8, true) & 1) === 1,
    jpeg: new Uint8Array(buffer, HEADER_BYTES, jpegBytes),
    sound: new Int16Array(buffer.slice(HEADER_BYTES + jpegBytes, HEADER_BYTES + jpegBytes + soundBytes)),
  };
}

export class Player {
  constructor(context, canvas) {
    this.context = context;
    this.canvas = canvas;
    this.pictures = [];
    this.heard = -1;
    this.gain = new GainNode(context, { gain: 0 });
    this.gain.connect(context.destination);
  }

  async open() {
    await this.context.audioWorklet.addModule(new URL("./speaker.js", import.meta.url));
    this.node = new AudioWorkletNode(this.context, "speaker", { outputChannelCount: [1] });
    this.node.connect(this.gain);
    this.node.port.onmessage = ({ data }) => this.show(data);
  }

  setAudible(isAudible) {
    this.gain.gain.setTargetAtTime(isAudible ? 1 : 0, this.context.currentTime, 0.01);
  }

  async take(buffer) {
    const frame = unpackFrame(buffer);
    const samples = Float32Array.from(frame.sound, (value) => value / 32768);
    this.node.port.postMessage({ number: frame.number, samples });
    if (frame.jpeg.length) {
      const picture = await createImageBitmap(new Blob([frame.jpeg]));
      this.pictures.push({ number: frame.number, picture });
      if (this.pictures.length > 50) this.pictures.shift().picture.close();
    }
    return frame;
  }

  silence(number) {
    this.node.port.postMessage({ silentFrom: number });
  }

  show(number) {
    this.heard = number;
    let last = null;
    while (this.pictures.length && this.pictures[0].number <= number) {
      if (last) last.picture.close();
      last = this.pictures.shift();
    }
    if (!last) return;
    const { canvas } = this;
    if (canvas.width !== last.picture.width || canvas.height !== last.picture.height) {
      canvas.width = last.picture.width;
      canvas.height = last.picture.height;
      canvas.style.aspectRatio = `${canvas.width} / ${canvas.height}`;
    }
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(last.picture, 0, 0);
    last.picture.close();
    canvas.dataset.frame = String(last.number);
  }

  close() {
    if (this.node) this.node.disconnect();
    for (const { picture } of this.pictures) picture.close();
    this.pictures = [];
  }
}
