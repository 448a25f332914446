// Microphone samples in pieces of 20 ms, as 16-bit PCM.
class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Int16Array(Math.round(sampleRate / 50));
    this.count = 0;
  }

  process(inputs) {
    const channel = inputs[0][0];
    if (!channel) return true;
    for (const value of channel) {
      this.piece[this.count++] = Math.max(-32768, Math.min(32767, Math.round(value * 32767)));
      if (this.count === this.piece.length) {
        this.port.postMessage(this.piece.slice().buffer);
        this.count = 0;
      }
    }
    return true;
  }
}
registerProcessor("recorder", Recorder);
