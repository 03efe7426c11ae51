import { readFileSync } from "node:fs";
import { Reader } from "../src/bytes/index.js";

/** The RTP packets of an rtpdump file, in order; RTCP is left out. */
export function readRtpdump(path: string): Uint8Array[] {
  const octets = new Uint8Array(readFileSync(path));
  const lineEnd = octets.indexOf(0x0a);
  if (lineEnd < 0) throw new Error(`${path} has no first line`);
  const reader = new Reader(octets.subarray(lineEnd + 1), "rtpdump");
  reader.bytes("fileHeader", 16);
  const packets: Uint8Array[] = [];
  while (reader.remaining > 0) {
    const length = reader.u16("length");
    const originalLength = reader.u16("originalLength");
    reader.u32("offset");
    const packet = reader.bytes("packet", length - 8);
    if (originalLength > 0) packets.push(packet);
  }
  return packets;
}
