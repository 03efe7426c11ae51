/** Samples per second of PCMU (RFC 3551 §4.5.14). */
export const TONE_CLOCK_RATE = 8000;
/** Samples, and PCMU octets, in one frame of 20 ms. */
export const TONE_FRAME = 160;
/** Frames until the tune begins again: 2 seconds. */
export const TONE_PERIOD = 100;

/** A rising C major chord, half a second a note, in hertz. No two frames of the period are equal. */
const NOTES = [523.25, 659.26, 783.99, 1046.5] as const;
const NOTE_SAMPLES = (TONE_PERIOD * TONE_FRAME) / NOTES.length;
/** Samples over which a note swells and fades, so that it does not click. */
const FADE = 200;
const AMPLITUDE = 12_000;

/**
 * The PCMU octets of frame `index` of the built-in tune: a function of the index alone, so that a receiver can tell whether
 * it got the right frames.
 * @param index a non-negative integer
 */
export function toneFrame(index: number): Uint8Array {
  const start = (index % TONE_PERIOD) * TONE_FRAME;
  return tune.slice(start, start + TONE_FRAME);
}

/** One octet of ITU-T G.711 mu-law for a 16-bit sample. */
export function encodeMuLaw(sample: number): number {
  const sign = sample < 0 ? 0x80 : 0;
  const magnitude = Math.min(Math.abs(Math.trunc(sample)), 32_635) + 132;
  // The segment is the position of the highest bit, 7 to 14; four bits below it are the step within the segment.
  const segment = 31 - Math.clz32(magnitude) - 7;
  return ~(sign | (segment << 4) | ((magnitude >> (segment + 3)) & 0x0f)) & 0xff;
}

function noteSample(index: number): number {
  const frequency = NOTES[Math.floor(index / NOTE_SAMPLES)] as number;
  const at = index % NOTE_SAMPLES;
  const envelope = Math.min(1, at / FADE, (NOTE_SAMPLES - at) / FADE);
  return AMPLITUDE * envelope * Math.sin((2 * Math.PI * frequency * index) / TONE_CLOCK_RATE);
}

const tune = Uint8Array.from({ length: TONE_PERIOD * TONE_FRAME }, (_, index) => encodeMuLaw(noteSample(index)));
