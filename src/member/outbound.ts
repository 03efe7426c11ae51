/** What an application sends, as a stream of the group: under the assigned SSRC, with sequence numbers that never go back. */
import { isRtcp, rtcpSsrc, rtpHeaderLength, rtpSequence, rtpSsrc } from "../srtp/index.js";

const SEQUENCES = 0x1_0000;
/** A jump further than this is a new stream of the application, not a loss: half of the space, as for any comparison of sequence numbers. */
const FAR = 0x8000;

/**
 * Rewrites the packets of applications that know nothing of the group. An application that starts anew chooses another SSRC and sequence
 * number; under the group's key the assigned SSRC goes on where it was, because no packet index may come twice (RFC 3711 §9.1).
 */
export class Renumbering {
  #source: number | undefined;
  #offset = 0;
  #last: number | undefined;

  /** Sequence number of the newest packet, as it was sent. */
  get last(): number | undefined {
    return this.#last;
  }

  /** A copy of the packet under `ssrc`, with room behind it; undefined where it is no RTP packet. @param room octets behind the packet */
  rtp(packet: Uint8Array, ssrc: number, room: number): Uint8Array | undefined {
    if (rtpHeaderLength(packet) < 0) return undefined;
    const source = rtpSsrc(packet);
    if (source !== this.#source) {
      this.#source = source;
      this.#offset = this.#last === undefined ? 0 : (this.#last + 1 - rtpSequence(packet) + SEQUENCES) % SEQUENCES;
    }
    const sequence = (rtpSequence(packet) + this.#offset) % SEQUENCES;
    if (this.#last === undefined || (sequence - this.#last + SEQUENCES) % SEQUENCES < FAR) this.#last = sequence;
    const out = new Uint8Array(packet.length + room);
    out.set(packet);
    const view = new DataView(out.buffer);
    view.setUint16(2, sequence);
    view.setUint32(8, ssrc);
    return out.subarray(0, packet.length);
  }

  /** The same for a compound RTCP packet: the application's SSRC becomes the assigned one wherever it is a sender (RFC 3550 §6.4). */
  rtcp(packet: Uint8Array, ssrc: number, room: number): Uint8Array | undefined {
    if (!isRtcp(packet)) return undefined;
    const source = rtcpSsrc(packet);
    const out = new Uint8Array(packet.length + room);
    out.set(packet);
    const view = new DataView(out.buffer);
    for (let at = 0; at + 8 <= packet.length; at += 4 * (view.getUint16(at + 2) + 1)) {
      if (view.getUint32(at + 4) === source) view.setUint32(at + 4, ssrc);
    }
    return out.subarray(0, packet.length);
  }
}
