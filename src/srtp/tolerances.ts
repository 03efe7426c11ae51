/** Where the packets of real peers depart from what was agreed on, each departure by name. */
export const SRTP_TOLERANCES = {
  "mki-missing-in-packets": "an MKI was announced, and packets have none",
} as const satisfies Readonly<Record<string, string>>;

export type SrtpToleranceName = keyof typeof SRTP_TOLERANCES;
