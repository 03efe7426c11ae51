import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createMediaKeying } from "../../src/gsa/index.js";
import { createToneSource, type RtspService, startRtspService, systemClock, systemTimers } from "../../src/node/index.js";
import { peerPolicy, peerProfile } from "../../src/peers/index.js";
import { createMikeyServerKeying, type RtspServerEvent, type ServerKeying } from "../../src/rtsp/index.js";
import { toneHashesFrom } from "../media.js";
import { describePeer, PYTHON, peerVersion } from "../peers.js";
import { lastJson, runProcess } from "../process.js";
import { script } from "../watchword.js";
import type { RtspsrcReport } from "./peers.js";
import { VARIANTS, type Variant } from "./variants.js";

const FRAMES = 10;
/** Seconds that a player has before it gives up by itself, and milliseconds before it is taken for lost. */
const PATIENCE = 3;
const LOST = 8000;

let service: RtspService;
const events: RtspServerEvent[] = [];
const pathOf = ({ name }: Variant): string => `/${VARIANTS.findIndex((variant) => variant.name === name)}`;

/** Our keying, but for what the description says. */
function varied({ vary }: Variant): ServerKeying {
  const dialect = peerProfile("gstreamer");
  const keying = createMikeyServerKeying({
    keying: createMediaKeying({ clock: systemClock, timers: systemTimers, dialect, allowNullKeying: true }),
    policy: peerPolicy(dialect, "AES_CM_128_HMAC_SHA1_80"),
  });
  return {
    offer: async (stream, peer) => {
      const offer = await keying.offer(stream, peer);
      return offer && { ...offer, octets: vary(offer.octets) };
    },
    accept: keying.accept,
  };
}

beforeAll(async () => {
  const presentations = VARIANTS.map((variant) => ({
    path: pathOf(variant),
    source: createToneSource(),
    profile: "RTP/SAVP" as const,
    keying: varied(variant),
  }));
  service = await startRtspService({ host: "127.0.0.1", port: 0, presentations, onEvent: (event) => events.push(event) });
});
afterAll(() => service.close());

/** Fixed in 1.24.13 and 1.26.2: newer ones skip what they do not know. */
const hangsFixed = (peerVersion("gstreamer") ?? "").localeCompare("1.24.13", "en", { numeric: true }) >= 0;
const rows = (outcome: Variant["outcome"]): readonly Variant[] => VARIANTS.filter((variant) => variant.outcome === outcome);

describePeer("gstreamer", "what rtspsrc makes of key messages", () => {
  const run = (test: Parameters<typeof runProcess>[0], variant: Variant) => {
    const args = ["--transport", "tcp", "--frames", String(FRAMES), "--seconds", String(PATIENCE)];
    return runProcess(test, PYTHON, [script("gstreamer", "rtspsrc.py"), service.url(pathOf(variant)), ...args], { limit: LOST });
  };
  const wasSetUp = (variant: Variant): boolean =>
    events.some((event) => event.type === "setup" && event.session.path === pathOf(variant));

  it.concurrent.for(rows("plays"))("$name: plays", async (variant, test) => {
    const report = lastJson<RtspsrcReport>(await run(test, variant));
    expect(report.tracks["0"]?.frames).toEqual(toneHashesFrom(report.tracks["0"]?.frames[0], FRAMES));
  });

  it.concurrent.for(rows("silent"))("$name: plays nothing, and ends", async (variant, test) => {
    const report = lastJson<RtspsrcReport>(await run(test, variant));
    expect(report.tracks["0"]?.frames ?? []).toEqual([]);
  });

  (hangsFixed ? it.skip : it.concurrent).for(rows("hangs"))("$name: never comes back", async (variant, test) => {
    const result = await run(test, variant);
    expect(result.signal).toBe("SIGKILL");
    expect(result.stdout).toBe("");
    expect(wasSetUp(variant)).toBe(false);
  });
});

/** Names in the captured table, where there is one. */
const CAPTURED: Readonly<Record<string, string>> = {
  cert: "CERT",
  counter: "T is a counter",
  cs2: "two crypto sessions",
  encaes: "encrypted",
  genext: "General Extension",
  genextlast: "General Extension last",
  gmap: "map type 1",
  id: "ID",
  idafterkemac: "ID behind KEMAC",
  interval: "interval",
  mac160: "MAC",
  nocs: "no crypto session",
  nokemac: "no KEMAC",
  nort: "no RAND, no T",
  nosp: "no SP",
  onlykemac: "KEMAC only",
  pkinit: "public-key message",
  policy5: "policy 5",
  rand32: "RAND of 32 octets",
  resp: "response",
  sign: "SIGN",
  spi: "SPI",
  "teksalt-dup": "TEK with its salt, and the salt again",
  teksalt: "TEK and salt apart",
  tgk: "TGK",
  trailing: "trailing octets",
  twokeys: "two keys",
  unknownpt: "unknown payload",
  ver2: "version 2",
  verif: "V",
  vflag: "V flag",
};
const table = resolve(import.meta.dirname, "../../../shared/golden/gst/mikey-acceptance-matrix-rtspsrc.json");

it.skipIf(!existsSync(table))("the table is the one that was captured", () => {
  const captured = JSON.parse(readFileSync(table, "utf8")) as {
    readonly rows: readonly { readonly variant: string; readonly rtspsrc: string }[];
  };
  const outcome = (text: string): Variant["outcome"] =>
    text.startsWith("PLAYS") ? "plays" : text.startsWith("HANGS") ? "hangs" : "silent";
  const theirs = Object.fromEntries(captured.rows.map(({ variant, rtspsrc }) => [CAPTURED[variant] ?? variant, outcome(rtspsrc)]));
  const ours = Object.fromEntries(VARIANTS.filter(({ name }) => name !== "as sent").map(({ name, outcome: own }) => [name, own]));
  expect(ours).toEqual(theirs);
});
