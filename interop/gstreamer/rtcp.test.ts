import { expect, it, onTestFinished } from "vitest";
import { createMediaKeying } from "../../src/gsa/index.js";
import { createToneSource, startRtspService, systemClock, systemTimers } from "../../src/node/index.js";
import { peerProfile } from "../../src/peers/index.js";
import { createMikeyServerKeying, type Presentation, type RtspServerEvent } from "../../src/rtsp/index.js";
import type { SuiteName } from "../../src/srtp/index.js";
import { describePeer } from "../peers.js";
import { play } from "../watchword.js";
import { gstServer, MATRIX_SUITES, rtspsrc } from "./peers.js";

const test = { onTestFinished };
const SUITES: readonly SuiteName[] = [...MATRIX_SUITES, "AES_CM_128_HMAC_SHA1_32"];

function presentation(suite: SuiteName): Presentation {
  const dialect = peerProfile("gstreamer");
  const keying = createMediaKeying({ clock: systemClock, timers: systemTimers, dialect, allowNullKeying: true });
  const policy = { suite, ...(suite.endsWith("_32") ? { rtcpTagLength: 4 } : {}) };
  return {
    path: `/${suite}`,
    source: createToneSource(),
    profile: "RTP/SAVPF",
    keying: createMikeyServerKeying({ keying, policy }),
  };
}

describePeer("gstreamer", "SRTCP both ways [SRTCP both ways]", () => {
  it("our server opens rtspsrc's reports, and rtspsrc our server's", async () => {
    const ended: RtspServerEvent[] = [];
    const service = await startRtspService({
      host: "127.0.0.1",
      port: 0,
      presentations: SUITES.map(presentation),
      onEvent: (event) => {
        if (event.type === "ended") ended.push(event);
      },
    });
    onTestFinished(() => service.close());
    // Long enough for a sender report of the tone (every 2.5 s) and for receiver reports of rtspsrc.
    const reports = await Promise.all(
      SUITES.map((suite) => rtspsrc(test, service.url(`/${suite}`), ["--frames", "180", "--seconds", "12", "--transport", "udp"])),
    );
    for (const report of reports) {
      expect(report.errors).toEqual([]);
      expect(report.decrypters[0]?.["recv-drop-count"]).toBe(0);
      // 180 frames and at least one report came through the decrypter.
      expect(report.decrypters[0]?.["recv-count"]).toBeGreaterThan(180);
    }
    await expect.poll(() => ended.length).toBe(SUITES.length);
    for (const event of ended) {
      const [track] = "session" in event ? event.session.tracks : [];
      expect(track?.reports).toBeGreaterThan(0);
      expect(track?.authenticationFailures).toBe(0);
    }
  });

  it("gst-rtsp-server opens the reports of watchword play", async () => {
    const flags = ["--profile", "gstreamer", "--allow-null-keying", "--duration", "9"];
    const met = await Promise.all(
      SUITES.map(async (suite) => {
        const server = await gstServer(test, ["--suite", suite]);
        const { result, report } = await play(test, [`rtsp://127.0.0.1:${server.port}/test`, ...flags]);
        expect(result.code, result.stderr).toBe(0);
        expect(report.authenticationFailures).toBe(0);
        return server.report();
      }),
    );
    for (const { decrypters } of met) {
      expect(decrypters[0]?.["recv-count"]).toBeGreaterThan(0);
      expect(decrypters[0]?.["recv-drop-count"]).toBe(0);
    }
  });
});
