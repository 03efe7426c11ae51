/** Where a player's plain RTP and RTCP go. The octets are not kept after a call returns. */
export interface MediaSink {
  rtp(track: number, packet: Uint8Array): void;
  rtcp(track: number, packet: Uint8Array): void;
  /** Resolves when everything is with the system. */
  close(): Promise<void>;
}
