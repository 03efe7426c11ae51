/** A Buffer's `slice` shares memory and its JSON differs: callers of this package see plain octets only. */
export function plain(octets: Uint8Array): Uint8Array {
  return new Uint8Array(octets.buffer, octets.byteOffset, octets.byteLength);
}

/** The same memory for an interface that wants a Buffer. */
export function buffer(octets: Uint8Array): Buffer {
  return Buffer.from(octets.buffer, octets.byteOffset, octets.byteLength);
}
