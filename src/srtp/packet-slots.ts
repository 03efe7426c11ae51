import { WatchwordError, wipe } from "../bytes/index.js";
import { sharedKernel } from "./kernel.js";

/** Longest slot: a slot is one piece of the kernel's memory. */
const MAX_SLOT = 0x10_0000;
const MAX_SLOTS = 0x1_0000;

export interface PacketSlotsOptions {
  /** How many packets there is room for, 1 to 65536. */
  readonly count: number;
  /** Octets for a packet with all that protection adds, 64 to 2^20. Default 2048. Powers of two waste nothing. */
  readonly slotLength?: number;
}

/**
 * Memory for packets that are protected and opened where they are: receive into a slot, or build the RTP packet there, pass the view
 * as packet and the slot as `out`, and send the view. What lies elsewhere is copied in and out. Slots are the caller's until
 * `release`; nothing else touches them.
 */
export interface PacketSlots {
  /** Whether the slots lie in the kernel's memory. They do not where there is no kernel, or none of its memory is left. */
  readonly isZeroCopy: boolean;
  /** The whole slots. */
  readonly slots: readonly Uint8Array[];
  /** Wipes the slots and gives them back. Views of them must not be used any more. */
  release(): void;
}

/** @throws WatchwordError `srtp.option` */
export function createPacketSlots({ count, slotLength = 2048 }: PacketSlotsOptions): PacketSlots {
  if (!isWithin(count, 1, MAX_SLOTS) || !isWithin(slotLength, 64, MAX_SLOT)) {
    throw new WatchwordError("srtp.option", `packet slots are 1 to ${MAX_SLOTS}, each of 64 to ${MAX_SLOT} octets`);
  }
  const kernel = sharedKernel();
  const addresses: number[] = [];
  const giveBack = (): void => {
    for (const at of addresses) kernel?.giveBackSlot(at, slotLength);
    addresses.length = 0;
  };
  while (kernel !== undefined && addresses.length < count) {
    const at = kernel.allocateSlot(slotLength);
    if (at === 0) break;
    addresses.push(at);
  }
  const isZeroCopy = addresses.length === count;
  if (!isZeroCopy) giveBack();
  const slots = isZeroCopy
    ? addresses.map((at) => new Uint8Array(kernel?.buffer as ArrayBuffer, at, slotLength))
    : Array.from({ length: count }, () => new Uint8Array(slotLength));
  return {
    isZeroCopy,
    slots,
    release() {
      if (isZeroCopy) giveBack();
      else wipe(...slots);
    },
  };
}

function isWithin(value: number, least: number, most: number): boolean {
  return Number.isInteger(value) && value >= least && value <= most;
}
