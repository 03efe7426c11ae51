import { afterAll, beforeAll, expect, it } from "vitest";
import { describePeer } from "../peers.js";
import { type Finishing, lastJson, type RunningProcess } from "../process.js";
import { startWatchword } from "../watchword.js";
import { DOMAIN, type Kamailio, PASSWORD, startKamailio } from "./proxy.js";

const PSK = "default:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const cleanUps: (() => void | Promise<void>)[] = [];
const wholeFile: Finishing = { onTestFinished: (callback) => void cleanUps.push(callback) };

interface Report {
  readonly packets: number;
  readonly lost: number;
  readonly fingerprint: string;
}

describePeer("kamailio", "watchword call and answer through it [carries our calls]", () => {
  let kamailio: Kamailio;
  beforeAll(async () => {
    kamailio = await startKamailio(wholeFile);
  });
  afterAll(async () => {
    for (const cleanUp of cleanUps.reverse()) await cleanUp();
  });

  const run = (
    test: Finishing,
    command: "call" | "answer",
    name: string,
    transport: string,
    args: readonly string[],
  ): RunningProcess => {
    const { port } = kamailio;
    const proxy = transport === "ws" ? `ws://127.0.0.1:${port.ws}` : `127.0.0.1:${transport === "tls" ? port.tls : port.sip}`;
    const way = ["--transport", transport, "--proxy", proxy, ...(transport === "tls" ? ["--insecure"] : [])];
    const who = ["--address", `sip:${name}@${DOMAIN}`, "--user", `${name}:${PASSWORD}`, "--psk", PSK, "--json"];
    return startWatchword(test, [command, ...args, ...way, ...who]);
  };

  it.concurrent.for(["udp", "tcp", "tls", "ws"])(
    "over %s: digest, registration, media, rekey, a proven end",
    async (transport, test) => {
      const names = [`caller-${transport}`, `called-${transport}`] as const;
      const answering = run(test, "answer", names[1], transport, ["--register", "--calls", "1"]);
      await answering.match(/^answering sip:/m);
      const calling = run(test, "call", names[0], transport, [`sip:${names[1]}@${DOMAIN}`, "--packets", "60", "--rekey", "0.5"]);
      const [called, answered] = [await calling.ended, await answering.ended];
      expect(called.code, called.stderr).toBe(0);
      expect(answered.code, answered.stderr).toBe(0);
      const report = lastJson<Report>(called);
      expect(report).toMatchObject({ endedBy: "local", teardownProof: "verified", keyedBy: "psk", lost: 0 });
      expect(report.packets).toBeGreaterThanOrEqual(60);
      expect(lastJson<Report>(answered)).toMatchObject({
        endedBy: "remote",
        teardownProof: "verified",
        fingerprint: report.fingerprint,
        remote: `sip:${names[0]}@${DOMAIN}`,
      });
    },
  );

  it.concurrent("who has the wrong password is told what to do", async (test) => {
    const { port } = kamailio;
    const proxy = ["--proxy", `127.0.0.1:${port.sip}`, "--address", `sip:stranger@${DOMAIN}`];
    const refused = await startWatchword(test, [
      "call",
      `sip:nobody@${DOMAIN}`,
      ...proxy,
      "--user",
      "stranger:guessed",
      "--psk",
      PSK,
    ]).ended;
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/give --user NAME:PASSWORD.*\[node\.sip-status-407\]/);
  });
});
