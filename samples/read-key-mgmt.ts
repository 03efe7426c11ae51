/**
 * Reads the key message of a session description, says what it means, and writes it again.
 * Run: npx tsx samples/read-key-mgmt.ts
 */
import { DataType, decodeMessage, encodeMessage, titleOf } from "watchword/mikey";
import { readKeyMgmt } from "watchword/sdp";
import { formatInspections, inspectOctets } from "watchword/tools";

/** The offer of RFC 4567 §5.1. */
const SDP = [
  "v=0",
  "o=alice 2891092738 2891092738 IN IP4 w-land.example.com",
  "s=Cool stuff",
  "t=0 0",
  "a=key-mgmt:mikey AQAFgM0XflABAAAAAAAAAAAAAAsAyONQ6gAAAAAGEEoo2pee4hp2UaDX8ZE22YwKAAAPZG9uYWxkQGR1Y2suY29tAQAAAAAAAQAk0JKpgaVkDaawi9whVBtBt0KZ14ymNuu62+Nv3ozPLygwK/GbAV9iemnGUIZ19fWQUOSrzKTAv9zV",
  "m=audio 49000 RTP/SAVP 98",
  "m=video 2232 RTP/SAVP 31",
].join("\r\n");

for (const [index, lines] of readKeyMgmt(SDP).effective.entries()) {
  for (const { protocol, section, data } of lines) {
    if (data === undefined) continue;
    const message = decodeMessage(data);
    const same = encodeMessage(message).every((octet, i) => octet === data[i]);
    const payloads = message.payloads.map(({ kind }) => kind).join(" ");
    console.log(
      `m= line ${index + 1}: ${protocol} at ${section} level, ${titleOf(DataType, message.header.dataType)}: ${payloads}`,
    );
    console.log(`written again: ${same ? "the same octets" : "other octets"}`);
  }
}

console.log(formatInspections(inspectOctets(new TextEncoder().encode(SDP))));
