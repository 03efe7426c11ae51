import { describe, expect, it } from "vitest";
import { createMediaKeying } from "../../src/gsa/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { peerPolicy, peerProfile } from "../../src/peers/index.js";
import { createAuthenticator, createMikeyServerKeying, type RtspStatusError, type StrangerLimits } from "../../src/rtsp/index.js";
import { createStrangerGate } from "../../src/rtsp/strangers.js";
import { busyCrypto } from "../mikey/busy-crypto.js";
import { BOB, caseNamed, credentialOf, type ModeCase, partyOf } from "../mikey/mode-fixture.js";
import { AES80 } from "./keyed-support.js";
import { createSetting, type Setting } from "./support.js";

const { crypto, idle } = busyCrypto(nodeCrypto);
const [DH, PSK] = [caseNamed("DH"), caseNamed("PSK")];

describe("the gate for strangers", () => {
  function gate(limits?: StrangerLimits) {
    const clock = { time: 0, now: () => clock.time };
    const admit = createStrangerGate(clock, limits);
    const admitted = (host: string, times: number): number => {
      let count = 0;
      for (let time = 0; time < times; time++) {
        try {
          admit(host);
          count++;
        } catch (error) {
          expect(error).toMatchObject({ status: 503, fields: [["Retry-After", "1"]], cause: { code: "rtsp.strangers" } });
        }
      }
      return count;
    };
    return { clock, admitted };
  }

  it("counts by address, for all together, and again as time goes by", () => {
    const { clock, admitted } = gate({ each: { burst: 3, perSecond: 1 }, all: { burst: 5, perSecond: 2 } });
    expect(admitted("192.0.2.1", 9)).toBe(3);
    expect(admitted("192.0.2.2", 9)).toBe(2);
    expect(admitted("192.0.2.3", 9)).toBe(0);
    clock.time = 1000;
    expect(admitted("192.0.2.1", 9)).toBe(1);
    expect(admitted("192.0.2.3", 9)).toBe(1);
  });

  it("one address that asks without end leaves what it does not get to the others", () => {
    const { admitted } = gate();
    expect(admitted("192.0.2.1", 1000)).toBe(20);
    expect(admitted("192.0.2.2", 1000)).toBe(20);
    expect(admitted("192.0.2.3", 1000)).toBe(20);
  });

  it.each([
    ["2001:db8:1:2::1", "2001:db8:1:2:ffff::9", 2],
    ["2001:db8::1", "2001:db8::2", 2],
    ["2001:db8:1:2::1", "2001:db8:1:3::1", 4],
    // A run of zeros is left out wherever it is the longest: behind, across or before the border of a /64.
    ["2001:db8:0:0:1::", "2001:db8::2:0:0:1", 2],
    ["2001:db8::3:1:2:3:4", "2001:db8::4:1:2:3:4", 4],
    ["2001::1:0:0:0:1", "2001::2:0:0:0:1", 4],
    ["fe80::1%eth0", "fe80::2%eth0", 2],
    ["::ffff:192.0.2.1", "::ffff:192.0.2.2", 4],
  ])("%s and %s are let through %3$i times", (one, other, count) => {
    const { admitted } = gate({ each: { burst: 2, perSecond: 1 } });
    expect(admitted(one, 9) + admitted(other, 9)).toBe(count);
  });

  it("remembers a bounded number of addresses, and no more are let through for it", () => {
    const { admitted } = gate({ each: { burst: 1, perSecond: 1 }, all: { burst: 5000, perSecond: 1 } });
    let count = admitted("198.51.100.1", 2);
    for (let host = 0; host < 6000; host++) count += admitted(`10.0.${host >> 8}.${host & 255}`, 1);
    count += admitted("198.51.100.1", 2);
    expect(count).toBe(5000);
  });
});

describe("descriptions", () => {
  const limits: StrangerLimits = { each: { burst: 2, perSecond: 1 } };

  function setting(row: ModeCase, users = false): Setting {
    return createSetting((network) => ({
      idle,
      presentation: {
        profile: "RTP/SAVP",
        keying: createMikeyServerKeying({
          keying: createMediaKeying({
            clock: network.clock,
            timers: network.timers,
            crypto,
            dialect: peerProfile("strict"),
            identity: BOB,
            requirePsk: true,
            ...partyOf(crypto, row, 1),
          }),
          policy: peerPolicy(peerProfile("strict"), AES80),
          credentialFor: () => ({ credential: credentialOf(crypto, row, 1) }),
          strangers: limits,
        }),
        ...(users
          ? {
              authenticator: createAuthenticator({
                realm: "x",
                crypto,
                clock: network.clock,
                password: () => "secret",
              }),
            }
          : {}),
      },
    }));
  }

  async function statuses(scene: Setting, times: number, user?: string): Promise<number[]> {
    const all: number[] = [];
    for (let time = 0; time < times; time++) {
      const client = await scene.client(user === undefined ? {} : { credentials: { user, password: "secret" } });
      const answer = scene.run(client.describe());
      all.push(await answer.then(() => 200).catch((error: unknown) => (error as RtspStatusError).status));
      client.close();
    }
    return all;
  }

  it("that cost a signature are bounded for who has not authenticated, and come again later", async () => {
    const scene = setting(DH);
    expect(await statuses(scene, 4)).toEqual([200, 200, 503, 503]);
    await scene.network.advance(1000);
    expect(await statuses(scene, 2)).toEqual([200, 503]);
  });

  it("are not bounded for who has, nor where they cost next to nothing", async () => {
    expect(await statuses(setting(DH, true), 4, "viewer")).toEqual([200, 200, 200, 200]);
    expect(await statuses(setting(PSK), 4)).toEqual([200, 200, 200, 200]);
  });
});
