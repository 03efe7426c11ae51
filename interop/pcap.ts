import { concatBytes, Writer } from "../src/bytes/index.js";

/** The port that IANA registered for MIKEY: dissectors look for it there. */
export const MIKEY_PORT = 2269;

/** LINKTYPE_RAW: packets begin with their IP header. */
const LINKTYPE_RAW = 101;

/** A capture file (libpcap, microseconds) with each payload in a UDP datagram from port 40000 to `port`. */
export function encodeUdpCapture(payloads: readonly Uint8Array[], port: number): Uint8Array {
  const writer = new Writer("pcap", 1 << 16);
  writer.u32("magic", 0xa1b2c3d4);
  writer.u16("major", 2);
  writer.u16("minor", 4);
  writer.u32("zone", 0);
  writer.u32("accuracy", 0);
  writer.u32("snapLength", 0x40000);
  writer.u32("linkType", LINKTYPE_RAW);
  payloads.forEach((payload, index) => {
    const packet = encodeIpv4(payload, port);
    writer.u32("seconds", index);
    writer.u32("microseconds", 0);
    writer.u32("captured", packet.length);
    writer.u32("length", packet.length);
    writer.bytes(packet);
  });
  return writer.finish();
}

/** IPv4 and UDP headers without checksums: the reader is told not to verify them. */
function encodeIpv4(payload: Uint8Array, port: number): Uint8Array {
  const writer = new Writer("ip", 28);
  writer.u16("version", 0x4500);
  writer.u16("length", 28 + payload.length);
  writer.u32("fragment", 0);
  writer.u8("hops", 64);
  writer.u8("protocol", 17);
  writer.u16("checksum", 0);
  writer.u32("source", 0x7f000001);
  writer.u32("destination", 0x7f000001);
  writer.u16("sourcePort", 40_000);
  writer.u16("destinationPort", port);
  writer.u16("udpLength", 8 + payload.length);
  writer.u16("udpChecksum", 0);
  return concatBytes(writer.finish(), payload);
}
