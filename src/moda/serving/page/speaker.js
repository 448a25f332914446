// Plays the sound of numbered frames, and says which frame is heard now: the clock of the pictures.
const FIRST_FRAMES = 3; // buffered before it begins: 0.12 s for the network to be uneven
const MOST_FRAMES = 15; // more would only make it late

class Speaker extends AudioWorkletProcessor {
  constructor() {
    super();
    this.frames = [];
    this.position = 0;
    this.isPlaying = false;
    this.port.onmessage = ({ data }) => {
      if (data.silentFrom !== undefined) {
        this.frames = this.frames.filter((frame) => frame.number >= data.silentFrom);
        this.position = 0;
        return;
      }
      this.frames.push(data);
      if (this.frames.length > MOST_FRAMES) {
        this.frames.splice(0, this.frames.length - FIRST_FRAMES);
        this.position = 0;
      }
    };
  }

  process(inputs, outputs) {
    const out = outputs[0][0];
    if (!this.isPlaying && this.frames.length >= FIRST_FRAMES) this.isPlaying = true;
    if (!this.isPlaying) return true;
    let filled = 0;
    while (filled < out.length) {
      const frame = this.frames[0];
      if (!frame) {
        this.isPlaying = false;
        break;
      }
      if (this.position === 0) this.port.postMessage(frame.number);
      const count = Math.min(out.length - filled, frame.samples.length - this.position);
      out.set(frame.samples.subarray(this.position, this.position + count), filled);
      filled += count;
      this.position += count;
      if (this.position === frame.samples.length) {
        this.frames.shift();
        this.position = 0;
      }
    }
    for (const other of outputs[0].slice(1)) other.set(out);
    return true;
  }
}
registerProcessor("speaker", Speaker);
