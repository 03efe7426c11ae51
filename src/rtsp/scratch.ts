/**
 * Memory for one packet at a time. The last view is kept: the packets of a fan-out are mostly of one length, and a view for each would be
 * the larger part of what there is to collect.
 */
export class Scratch {
  readonly octets: Uint8Array;
  #view: Uint8Array;

  constructor(length: number) {
    this.octets = new Uint8Array(length);
    this.#view = this.octets.subarray(0, 0);
  }

  /** The first `length` octets, until the next call that writes. */
  view(length: number): Uint8Array {
    if (this.#view.length !== length) this.#view = this.octets.subarray(0, length);
    return this.#view;
  }

  /** Takes a copy and gives the view of it. */
  hold(octets: Uint8Array): Uint8Array {
    this.octets.set(octets);
    return this.view(octets.length);
  }
}
