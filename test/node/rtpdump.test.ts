import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { createRtpdumpWriter } from "../../src/node/index.js";

const folder = mkdtempSync(join(tmpdir(), "watchword-rtpdump-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("createRtpdumpWriter", () => {
  it("writes the rtptools format, octet by octet", async () => {
    const path = join(folder, "a.rtpdump");
    let steady = 5000;
    const writer = await createRtpdumpWriter({
      path,
      source: { host: "127.0.0.1", port: 5004 },
      clock: { now: () => 1_700_000_000_123.9 },
      steady: { now: () => steady },
    });
    const packet = Uint8Array.of(0x80, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 9);
    writer.rtp(0, packet);
    packet.fill(0xee);
    steady += 1234.5;
    writer.rtcp(1, Uint8Array.of(0x80, 201, 0, 1, 0, 0, 0, 9));
    await writer.close();
    writer.rtp(0, packet);
    await writer.close();
    expect(readFileSync(path).toString("hex")).toBe(
      [
        Buffer.from("#!rtpplay1.0 127.0.0.1/5004\n").toString("hex"),
        "6553f100", // seconds
        "0001e078", // microseconds
        "7f000001138c0000",
        "0015000d00000000",
        "80000001000000020000000309",
        "00100000000004d2",
        "80c9000100000009",
      ].join(""),
    );
  });

  it("says where it cannot write", async () => {
    await expect(createRtpdumpWriter({ path: join(folder, "none", "a") })).rejects.toMatchObject({ code: "node.file" });
    await expect(createRtpdumpWriter({ path: folder })).rejects.toMatchObject({ code: "node.file" });
  });

  it("leaves out a packet that the format cannot hold", async () => {
    const path = join(folder, "b.rtpdump");
    const writer = await createRtpdumpWriter({ path });
    writer.rtp(0, new Uint8Array(65_530));
    await writer.close();
    expect(readFileSync(path).length).toBe("#!rtpplay1.0 0.0.0.0/0\n".length + 16);
  });

  it("reports a write that failed when it is closed", async () => {
    const writer = await createRtpdumpWriter({ path: "/dev/full" });
    writer.rtp(0, new Uint8Array(12));
    await expect(writer.close()).rejects.toMatchObject({ code: "node.file" });
  });
});
