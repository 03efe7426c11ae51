import { utf8 } from "../../src/bytes/index.js";
import { nobleCrypto } from "../../src/crypto/index.js";
import { createMediaKeying, type MediaKeying, type MediaKeyingOptions } from "../../src/gsa/index.js";
import type { SimulatedNetwork } from "../../src/io/index.js";
import { type PeerProfile, type PeerProfileName, peerPolicy, peerProfile } from "../../src/peers/index.js";
import {
  type ClientKeying,
  type ClientTransport,
  createAutoClientKeying,
  createMikeyClientKeying,
  createMikeyServerKeying,
  createPskDirectory,
  identityOf,
  nameOfIdentity,
  type Presentation,
  type RtspClientOptions,
  type ServerKeying,
} from "../../src/rtsp/index.js";
import type { SuiteName } from "../../src/srtp/index.js";
import { createSetting, type Setting, type SettingOptions } from "./support.js";

export const PSK = utf8("0123456789abcdef0123456789abcdef");
export const AES80: SuiteName = "AES_CM_128_HMAC_SHA1_80";

type KeyingChoice = Partial<MediaKeyingOptions>;

export function mediaKeying(network: SimulatedNetwork, dialect: PeerProfile, options: KeyingChoice = {}): MediaKeying {
  return createMediaKeying({ clock: network.clock, timers: network.timers, crypto: nobleCrypto, dialect, ...options });
}

export interface ServerChoice extends KeyingChoice {
  readonly suite?: SuiteName;
  readonly psk?: Uint8Array;
  readonly level?: "session" | "media";
  /** Beside the pre-shared key: NULL keying for clients of this kind. */
  readonly open?: PeerProfile;
}

/** The keying of a server for clients of a kind. */
export function serverKeying(network: SimulatedNetwork, profile: PeerProfile, choice: ServerChoice = {}): ServerKeying {
  const { suite = AES80, psk, level = profile.keyLevel, open, ...options } = choice;
  const directory = psk === undefined ? undefined : createPskDirectory([["viewer", psk]]);
  return createMikeyServerKeying({
    keying: mediaKeying(network, profile, {
      identity: identityOf("server"),
      ...(directory === undefined
        ? {}
        : {
            requirePsk: true,
            findCredential: (id) => {
              const found = directory.find(nameOfIdentity(id) ?? "");
              return found === undefined ? undefined : { psk: found };
            },
          }),
      ...options,
    }),
    policy: peerPolicy(profile, suite),
    habits: open ?? profile,
    level,
    ...(directory === undefined ? {} : { directory }),
    ...(open === undefined ? {} : { open: { keying: mediaKeying(network, open, options), policy: peerPolicy(open, suite) } }),
  });
}

/** The keying of a client for servers of a kind. */
export function clientKeying(
  network: SimulatedNetwork,
  name: PeerProfileName,
  { psk, ...options }: KeyingChoice & { readonly psk?: Uint8Array } = {},
): ClientKeying {
  const profile = peerProfile(name);
  return createMikeyClientKeying({
    keying: mediaKeying(network, profile, {
      identity: identityOf("viewer"),
      ...(psk === undefined ? {} : { requirePsk: true, findCredential: () => ({ psk }) }),
      ...options,
    }),
    scope: "viewer",
    profile,
    preferPsk: psk !== undefined,
    initiate: { policy: peerPolicy(profile, AES80), ...(psk === undefined ? {} : { credential: { psk } }) },
  });
}

/** The keying of a client that finds out. */
export function autoKeying(
  network: SimulatedNetwork,
  steps: string[] = [],
  { psk, suite = AES80, ...options }: KeyingChoice & { readonly psk?: Uint8Array; readonly suite?: SuiteName } = {},
): ClientKeying {
  return createAutoClientKeying({
    keyingFor: (profile) =>
      mediaKeying(network, profile, {
        identity: identityOf("viewer"),
        ...(psk === undefined ? {} : { requirePsk: true, findCredential: () => ({ psk }) }),
        ...options,
      }),
    scope: "viewer",
    suite,
    onStep: (profile) => steps.push(profile),
    ...(psk === undefined ? {} : { credential: { psk } }),
  });
}

/** A server inside TLS for clients of a kind. */
export function peerSetting(
  profile: PeerProfile,
  choice: ServerChoice = {},
  { presentation, ...options }: Omit<SettingOptions, "presentation"> & { readonly presentation?: Partial<Presentation> } = {},
): Setting {
  return createSetting((network) => ({
    secure: true,
    ...options,
    presentation: {
      profile: "RTP/SAVP",
      keying: serverKeying(network, profile, choice),
      announce: profile.privateAttributes,
      ...presentation,
    },
  }));
}

/** A client that plays. */
export async function playing(
  setting: Setting,
  options: Partial<RtspClientOptions>,
  transport: ClientTransport = "udp",
  tracks: readonly number[] = [0],
) {
  const player = await setting.client(options);
  await setting.run(player.describe());
  for (const track of tracks) await setting.run(player.setup(track, transport));
  await setting.run(player.play());
  return player;
}
