import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { encodeUdpCapture, MIKEY_PORT } from "../pcap.js";

const run = promisify(execFile);

/** What tshark saw in one message. */
export interface Dissection {
  /** The dissector took it for MIKEY. */
  readonly isMikey: boolean;
  /** Expert messages and malformed marks; empty for a good message. */
  readonly complaints: readonly string[];
  /** All values of a field, in order, e.g. `mikey.next_payload`. */
  values(field: string): readonly string[];
}

/** Dissects all messages in one run of tshark. @param port says which protocol it looks for first */
export async function dissect(messages: readonly Uint8Array[], port: number = MIKEY_PORT): Promise<Dissection[]> {
  const folder = mkdtempSync(join(tmpdir(), "watchword-tshark-"));
  try {
    const file = join(folder, "messages.pcap");
    writeFileSync(file, encodeUdpCapture(messages, port));
    const { stdout } = await run("tshark", ["-n", "-r", file, "-T", "pdml"], { timeout: 25_000, maxBuffer: 64 << 20 });
    const packets = parsePdml(stdout);
    if (packets.length !== messages.length) throw new Error(`tshark showed ${packets.length} of ${messages.length} messages`);
    return packets;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Reads the packets of tshark's XML: every element with its name and value, nesting aside. */
function parsePdml(pdml: string): Dissection[] {
  return pdml
    .split("<packet>")
    .slice(1)
    .map((packet) => {
      const elements = [...packet.matchAll(/<(?:proto|field) ([^>]*)>/g)].map(([, attributes]) => {
        const read = (name: string): string => new RegExp(`(?:^| )${name}="([^"]*)"`).exec(attributes ?? "")?.[1] ?? "";
        return { name: read("name"), show: read("show"), showname: read("showname") };
      });
      return {
        isMikey: elements.some(({ name }) => name === "mikey"),
        complaints: elements
          .filter(({ name }) => /^_ws\.(expert|malformed|lua|short)/.test(name))
          .map(({ name, show, showname }) => `${name} ${showname || show}`),
        values: (field) => elements.filter(({ name }) => name === field).map(({ show }) => show),
      };
    });
}
