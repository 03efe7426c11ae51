import type { Datagrams } from "../io/index.js";
import type { NumberPair } from "./transport.js";

/** Carries the packets of one stream, protected or plain, both ways. */
export interface MediaCarrier {
  readonly kind: "udp" | "tcp" | "multicast";
  onRtp: ((packet: Uint8Array) => void) | undefined;
  onRtcp: ((packet: Uint8Array) => void) | undefined;
  /** False where the packet was dropped because the peer does not read. The octets are not kept. */
  sendRtp(packet: Uint8Array): boolean;
  sendRtcp(packet: Uint8Array): boolean;
  close(): void;
}

/** Where datagrams go, and the only host that they are accepted from. */
export interface DatagramPeer {
  readonly host: string;
  readonly ports: NumberPair;
  /** Sent to a multicast group instead, which a source-specific group does not allow its members. */
  readonly group?: { readonly address: string; readonly mute: boolean };
}

/** Carries a stream over a pair of UDP ports. Closing the carrier closes the sockets, and leaves the group. */
export function createDatagramCarrier(sockets: readonly [rtp: Datagrams, rtcp: Datagrams], peer: DatagramPeer): MediaCarrier {
  const [rtp, rtcp] = sockets;
  const host = peer.group?.address ?? peer.host;
  const mute = peer.group?.mute === true;
  const carrier: MediaCarrier = {
    kind: peer.group === undefined ? "udp" : "multicast",
    onRtp: undefined,
    onRtcp: undefined,
    sendRtp: (packet) => {
      if (!mute) rtp.send(packet, { host, port: peer.ports[0] });
      return !mute;
    },
    sendRtcp: (packet) => {
      if (!mute) rtcp.send(packet, { host, port: peer.ports[1] });
      return !mute;
    },
    close: () => {
      carrier.onRtp = undefined;
      carrier.onRtcp = undefined;
      rtp.close();
      rtcp.close();
    },
  };
  rtp.onDatagram = (packet, from) => {
    if (from.host === peer.host) carrier.onRtp?.(packet);
  };
  rtcp.onDatagram = (packet, from) => {
    if (from.host === peer.host) carrier.onRtcp?.(packet);
  };
  return carrier;
}

/** The interleaved channels of one connection (RFC 2326 §10.12). */
export interface FrameChannels {
  /** Sends one frame; false where the reader is too slow and it was dropped. */
  sendFrame(channel: number, data: Uint8Array): boolean;
  /** Hands a received frame to its channel; frames of other channels are dropped. */
  receive(channel: number, data: Uint8Array): void;
  /** Whether a channel has a stream. */
  taken(channel: number): boolean;
  /** The wanted pair if it is free, else the next free one; undefined when all are taken. */
  choose(wanted: NumberPair | undefined): NumberPair | undefined;
  /** Opens a stream on a pair of channels. */
  open(channels: NumberPair): MediaCarrier;
}

/** Creates the channels of a connection. @param sendFrame writes one frame; false where it was dropped */
export function createFrameChannels(sendFrame: (channel: number, data: Uint8Array) => boolean): FrameChannels {
  const handlers = new Map<number, (data: Uint8Array) => void>();
  const free = ([first, second]: NumberPair): boolean =>
    first !== second && first <= 255 && second <= 255 && !handlers.has(first) && !handlers.has(second);
  return {
    sendFrame,
    receive: (channel, data) => handlers.get(channel)?.(data),
    taken: (channel) => handlers.has(channel),
    choose: (wanted) => {
      if (wanted !== undefined && free(wanted)) return wanted;
      for (let first = 0; first < 256; first += 2) if (free([first, first + 1])) return [first, first + 1];
      return undefined;
    },
    open: ([first, second]) => {
      const carrier: MediaCarrier = {
        kind: "tcp",
        onRtp: undefined,
        onRtcp: undefined,
        sendRtp: (packet) => sendFrame(first, packet),
        sendRtcp: (packet) => sendFrame(second, packet),
        close: () => {
          carrier.onRtp = undefined;
          carrier.onRtcp = undefined;
          handlers.delete(first);
          handlers.delete(second);
        },
      };
      handlers.set(first, (data) => carrier.onRtp?.(data));
      handlers.set(second, (data) => carrier.onRtcp?.(data));
      return carrier;
    },
  };
}
