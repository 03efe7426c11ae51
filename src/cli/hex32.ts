/** A number of 32 bits as octets on the wire are written: an MKI, an SSRC, a CSB ID. */
export function formatHex32(value: number): string {
  return value.toString(16).padStart(8, "0");
}
