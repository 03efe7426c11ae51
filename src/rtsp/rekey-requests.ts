import { WatchwordError } from "../bytes/index.js";
import type { KeyedMedia, PendingRekey } from "../gsa/index.js";
import type { KeyMgmtSpec } from "../sdp/index.js";
import { carriedKeyMgmt, carryKeyMgmt } from "./key-mgmt-carriage.js";
import { findSpec, type KeyingHabits } from "./keying.js";
import type { RtspHeaders, RtspResponse } from "./message.js";

/** Media to rekey, and the URI that its key message is for. */
export interface RekeyedMedia {
  readonly media: KeyedMedia;
  readonly uri: string;
}

/** How either end says new keys. */
export interface RekeyCarrier {
  readonly habits: KeyingHabits | undefined;
  readonly uriOfAll: string;
  /** What stands as uri in KeyMgmt where there is one message. Default: the URI itself. */
  readonly loneUri?: (uri: string) => string;
  /** Sends SET_PARAMETER. @throws for any answer but a success */
  send(uri: string, fields: RtspHeaders, body: Uint8Array | undefined): Promise<RtspResponse>;
}

/**
 * Gives media new keys by SET_PARAMETER (docs/protocol.md §7): all by one request, but where the body carries one message and no URI, as ONVIF
 * has it, by one each. What the other end did not take keeps its old keys.
 * @returns how many were rekeyed
 * @throws what `send` and `PendingRekey.complete` throw
 */
export async function rekeyByRequests(all: readonly RekeyedMedia[], carrier: RekeyCarrier): Promise<number> {
  const groups = carrier.habits?.rekeyForm === "mikey" ? all.map((one) => [one]) : [all];
  let count = 0;
  for (const group of groups) count += await rekeyGroup(group, group.length < all.length, carrier);
  return count;
}

async function rekeyGroup(group: readonly RekeyedMedia[], partial: boolean, carrier: RekeyCarrier): Promise<number> {
  const { habits, uriOfAll, loneUri = (uri: string) => uri } = carrier;
  const pending: { readonly uri: string; readonly rekey: PendingRekey }[] = [];
  try {
    for (const { media, uri } of group) pending.push({ uri, rekey: await media.startRekey() });
    const [first] = pending;
    if (first === undefined) return 0;
    const specs = pending.map(({ uri, rekey }) => ({
      protocol: "mikey",
      uri: group.length === 1 ? loneUri(uri) : uri,
      data: rekey.octets,
    }));
    const { fields, body } = carryKeyMgmt(specs, habits?.rekeyForm ?? "header");
    const response = await carrier.send(partial ? first.uri : uriOfAll, fields, body);
    const answers = carriedKeyMgmt(response, true)?.specs ?? [];
    while (pending.length > 0) {
      const { uri, rekey } = pending[0] as (typeof pending)[number];
      await rekey.complete(findSpec(answers, uri, specs.length)?.data);
      pending.shift();
    }
    return specs.length;
  } finally {
    for (const { rekey } of pending) rekey.abandon();
  }
}

/**
 * Takes new keys that the other end made. Nothing is installed before it is known for every message what it keys.
 * @param mediaFor what a message keys, by its uri; undefined where there is no such stream
 * @returns what goes back, and how many messages there were
 * @throws MikeyError; WatchwordError `rtsp.key-mgmt` where no message is MIKEY's, `rtsp.key-mgmt-context`
 */
export async function acceptRekeys(
  specs: readonly KeyMgmtSpec[],
  mediaFor: (uri: string | undefined) => KeyedMedia | undefined,
): Promise<{ readonly answers: readonly KeyMgmtSpec[]; readonly streams: number }> {
  const meant = specs
    .filter(({ protocol }) => protocol === "mikey")
    .map(({ uri, data }) => {
      const media = mediaFor(uri);
      if (media === undefined) throw new WatchwordError("rtsp.key-mgmt-context", "no keyed stream under this URI");
      return { media, uri, data };
    });
  if (meant.length === 0) throw new WatchwordError("rtsp.key-mgmt", "no key management protocol that is known");
  const answers: KeyMgmtSpec[] = [];
  for (const { media, uri, data } of meant) {
    const answer = await media.acceptRekey(data);
    if (answer !== undefined) answers.push({ protocol: "mikey", ...(uri === undefined ? {} : { uri }), data: answer });
  }
  return { answers, streams: meant.length };
}
