import { describe, expect, it } from "vitest";
import { utf8Text } from "../../src/bytes/index.js";
import { type CryptoProvider, nobleCrypto } from "../../src/crypto/index.js";
import { anyClientProfile, type PeerProfile, peerProfile, peerProfileNames } from "../../src/peers/index.js";
import { AES80, autoKeying, clientKeying, PSK, serverKeying } from "./keyed-support.js";
import { createSetting, H264, PCMU, type Setting, type SettingOptions } from "./support.js";

/** Octets that count up from a seed: what is said becomes the same every time. */
function counting(seed: number): CryptoProvider {
  let next = seed;
  return { ...nobleCrypto, randomBytes: (length) => Uint8Array.from({ length }, () => next++ & 0xff) };
}

const NOW = Date.UTC(2027, 0, 1);

function setting(
  profile: PeerProfile,
  options: Partial<SettingOptions> & {
    readonly psk?: Uint8Array;
    readonly open?: PeerProfile;
    readonly capabilities?: boolean;
  } = {},
): Setting {
  const { psk, open, capabilities, ...rest } = options;
  return createSetting(
    (network) => ({
      secure: true,
      ...rest,
      presentation: {
        profile: "RTP/SAVP",
        announce: profile.privateAttributes,
        keying: serverKeying(network, profile, {
          crypto: counting(0x10),
          ...(psk === undefined ? {} : { psk }),
          ...(open === undefined ? {} : { open }),
        }),
        ...(capabilities === undefined ? {} : { capabilities }),
      },
    }),
    { now: NOW },
  );
}

/** Everything that both ends say while they set up, play, rekey and part, one line per line, `C:` and `S:` for who says it. */
async function dialogue(
  { client, network, run, server }: Setting,
  keying: Parameters<Setting["client"]>[0],
  streams: number,
): Promise<string> {
  const said: string[] = [];
  network.onTraffic = ({ kind, from, octets }) => {
    if (kind === "datagram") return;
    const who = from.host === "client" ? "C" : "S";
    const text = (utf8Text(octets) ?? "").replace(/\r\n$/, "");
    said.push(...text.split("\r\n").map((line) => `${who}: ${line}`.trimEnd()), "");
  };
  const player = await client({ ...keying, mediaTimeout: 0 });
  await run(player.describe());
  for (let index = 0; index < streams; index++) await run(player.setup(index, "tcp"));
  await run(player.play());
  await run(player.rekey());
  const [session] = server.sessions;
  await run(server.rekey(session?.id ?? ""));
  await run(player.teardown());
  return `${said.join("\n")}\n`;
}

/** What we say to a kind of peer changes only where somebody sees it: `npx vitest run -u test/rtsp/dialogues.test.ts` writes it anew. */
describe("what we say, octet for octet", () => {
  it.each(peerProfileNames)("to %s, NULL-keyed", async (name) => {
    const place = setting(peerProfile(name), { tracks: [PCMU, H264] });
    const keying = clientKeying(place.network, name, { crypto: counting(0x90) });
    await expect(await dialogue(place, { keying }, 2)).toMatchFileSnapshot(`dialogues/${name}.txt`);
  });

  it("to our own ends, with a pre-shared key", async () => {
    const place = setting(peerProfile("strict"), { psk: PSK, secure: false });
    const keying = clientKeying(place.network, "strict", { crypto: counting(0x90), psk: PSK });
    await expect(await dialogue(place, { keying, from: "viewer" }, 1)).toMatchFileSnapshot("dialogues/strict-psk.txt");
  });

  it("to anybody, as a server that offers both, and as a client that finds out", async () => {
    const place = setting(peerProfile("strict"), { psk: PSK, open: anyClientProfile() });
    const keying = autoKeying(place.network, [], { crypto: counting(0x90), suite: AES80 });
    await expect(await dialogue(place, { keying }, 1)).toMatchFileSnapshot("dialogues/auto.txt");
  });

  it("to who knows capabilities", async () => {
    const place = setting(peerProfile("onvif"), { capabilities: true });
    const keying = clientKeying(place.network, "onvif", { crypto: counting(0x90) });
    await expect(await dialogue(place, { keying }, 1)).toMatchFileSnapshot("dialogues/onvif-capabilities.txt");
  });
});
