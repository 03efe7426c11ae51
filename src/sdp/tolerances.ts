/** Where the descriptions and headers of real peers depart from RFC 4567 and RFC 5939, each departure by name. */
export const SDP_TOLERANCES = {
  "empty-key-mgmt-uri": 'KeyMgmt with uri="" means the request URI (RFC 4567 §4.2 leaves the parameter out for that)',
  "capability-without-negotiation": "a=acap key management is taken although RTSP has no answer that could choose it (RFC 5939)",
} as const satisfies Readonly<Record<string, string>>;

export type SdpToleranceName = keyof typeof SDP_TOLERANCES;
