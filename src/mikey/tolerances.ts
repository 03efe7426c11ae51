/**
 * Where real peers depart from RFC 3830, each departure by name (what the departures are and who needs them: src/peers).
 * A tolerance that a message made use of is reported in `csb.tolerances`. All concern NULL-keyed messages only, where
 * not stated otherwise: a message protected by a key gets no leniency that its protection rests on.
 */
export const TOLERANCES = {
  "rand-absent": "the first message has no RAND; acceptable only where nothing is derived from it (TEK)",
  "timestamp-unchecked": "T is no NTP time of this era and clock (a Windows FILETIME, a COUNTER, a clock that was never set)",
  "tag-length-in-auth-key-length": "SRTP parameter 3 is 4 or 10 and means the tag length, parameter 11 being absent",
  "short-srtcp-tag": "with a 4-octet SRTP tag the SRTCP tag has 4 octets too, where RFC 3711 §5.2 wants 10",
  "concatenated-key-and-salt": "a TEK without salt field is master key and master salt in one (RFC 3830 defines no salt for it)",
  "mki-length": "the SPI has another length than 4 octets",
  "empty-spi": "KV type SPI with a length of 0 means that there is no SPI",
  "trailing-zero": "one zero octet follows the last payload",
  "v-flag-without-meaning": "V = 1 although no verification is possible; none is sent",
  "ssrc-zero-or-random": "the SSRC in the CS ID map is 0, or is not the one in the packets: the SSRC is learnt elsewhere",
  "several-cs-one-policy": "several crypto sessions share one policy and one TEK (an RTX stream beside its media stream)",
  "rekey-under-new-csb": "a new key comes in a message of its own, under another CSB ID or with a RAND, instead of in an update",
  "one-key-for-all-streams":
    "one message at session level has fewer crypto sessions than there are m= lines: its key serves them all",
  "signature-header-uncovered":
    "the signature in SIGN leaves out its own two octets of S type and length, which RFC 3830 §5.2 has it cover; modes that sign",
  "sdp-ids-absent": "no SDP IDs extension although MIKEY is the only protocol offered (RFC 4567 §5.1 itself has none); any keying",
} as const satisfies Readonly<Record<string, string>>;

export type ToleranceName = keyof typeof TOLERANCES;

/** Collects which of the allowed tolerances a message needed. */
export interface ToleranceUse {
  /** True, and noted, when the tolerance is allowed. */
  take(name: ToleranceName): boolean;
  /** True when it is allowed; whether it is needed is not known yet. */
  allows(name: ToleranceName): boolean;
  /** What was taken, in order, once each. */
  readonly used: readonly ToleranceName[];
}

export function createToleranceUse(allowed: readonly ToleranceName[]): ToleranceUse {
  const used: ToleranceName[] = [];
  return {
    used,
    allows: (name) => allowed.includes(name),
    take(name) {
      if (!allowed.includes(name)) return false;
      if (!used.includes(name)) used.push(name);
      return true;
    },
  };
}
