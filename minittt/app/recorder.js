// Runs in the browser's audio thread: hands every piece of what the microphone hears to the page, as it is.
"use strict";

class Recorder extends AudioWorkletProcessor {
  process(inputs) {
    const [channel] = inputs[0];
    if (channel) {
      this.port.postMessage(channel.slice());
    }
    return true; // go on
  }
}

registerProcessor("recorder", Recorder);
