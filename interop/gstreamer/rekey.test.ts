import { expect, it } from "vitest";
import { toneHashesFrom } from "../media.js";
import { describePeer } from "../peers.js";
import { serve } from "../watchword.js";
import { rtspsrc } from "./peers.js";

const FRAMES = 200;

describePeer("gstreamer", "an application of rtspsrc takes new keys [new keys while playing]", () => {
  it.concurrent.for(["udp", "tcp"])("over %s, every second, and loses nothing", async (transport, test) => {
    const server = await serve(test, [
      ...["--profile", "gstreamer", "--allow-null-keying", "--mki", "4"],
      ...["--rekey", "1", "--rekey-form", "header"],
    ]);
    const args = ["--take-keys", "--transport", transport, "--frames", String(FRAMES), "--seconds", "15"];
    const report = await rtspsrc(test, server.url, args);
    expect(report.errors).toEqual([]);
    expect(report.tracks["0"]?.frames).toEqual(toneHashesFrom(report.tracks["0"]?.frames[0], FRAMES));
    for (const counts of report.decrypters) expect(counts["recv-drop-count"]).toBe(0);
    expect(new Set(report.keys).size).toBeGreaterThan(2);
    expect(server.process.stderr).toContain("rekeyed");
  });
});
