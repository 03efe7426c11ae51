import type { Clock } from "../io/index.js";
import { MikeyError } from "./errors.js";
import { entryOf, TimestampType } from "./registry.js";

/** The value of a T payload (RFC 3830 §6.6). */
export interface Timestamp {
  readonly tsType: number;
  /** 8 octets for NTP-UTC and NTP, 4 for COUNTER and NTP-UTC-32. */
  readonly value: Uint8Array;
}

/** Seconds from 1900-01-01 to 1970-01-01. */
const UNIX_EPOCH_IN_NTP = 2_208_988_800;
const ERA_SECONDS = 2 ** 32;

/** True for the types that count and tell no time. */
export function isCounter(tsType: number): boolean {
  return tsType === TimestampType.COUNTER;
}

/**
 * Milliseconds since 1970 as an NTP timestamp of 8 octets. The seconds are taken modulo 2^32: from 2036-02-07 on they
 * count from 0 again (RFC 3830 §4.2.8).
 */
export function encodeNtp(milliseconds: number): Uint8Array {
  const seconds = Math.floor(milliseconds / 1000);
  const fraction = Math.floor(((milliseconds - seconds * 1000) / 1000) * ERA_SECONDS);
  const value = new Uint8Array(8);
  setWord(value, 0, (seconds + UNIX_EPOCH_IN_NTP) % ERA_SECONDS);
  setWord(value, 4, fraction);
  return value;
}

/** Four octets, network byte order. */
function word(octets: Uint8Array, at: number): number {
  let value = 0;
  for (let i = 0; i < 4; i++) value = (value << 8) | (octets[at + i] as number);
  return value >>> 0;
}

function setWord(octets: Uint8Array, at: number, value: number): void {
  for (let i = 0; i < 4; i++) octets[at + i] = value >>> (24 - 8 * i);
}

/**
 * An NTP timestamp as milliseconds since 1970, in the era that brings it nearest to `near`: within 68 years either way
 * (RFC 3830 §4.2.8; for NTP-UTC-32 this covers the extension to 2104 that RFC 6043 §6.3 asks for).
 * @param value 8 octets, or 4 for NTP-UTC-32
 */
export function decodeNtp(value: Uint8Array, near: number): number {
  const fraction = value.length >= 8 ? (word(value, 4) / ERA_SECONDS) * 1000 : 0;
  const inEra = (word(value, 0) - UNIX_EPOCH_IN_NTP) * 1000 + fraction;
  const eraLength = ERA_SECONDS * 1000;
  return inEra + Math.round((near - inEra) / eraLength) * eraLength;
}

/**
 * T as 64 bits, for the IV of AES-CM and wherever else 8 octets are needed: a COUNTER is padded with leading zeros
 * (RFC 3830 §6.6), an NTP-UTC-32 with zeros in the fraction (RFC 6043 §6.3).
 */
export function timestamp64({ tsType, value }: Timestamp): Uint8Array {
  if (value.length === 8) return value;
  const padded = new Uint8Array(8);
  padded.set(value, isCounter(tsType) ? 8 - value.length : 0);
  return padded;
}

/**
 * Is `later` newer than `earlier`? Times are compared modulo their era, so that 2036 does not look like 1900; counters as
 * plain numbers. Timestamps of different kinds are never newer.
 */
export function isNewer(later: Timestamp, earlier: Timestamp): boolean {
  if (isCounter(later.tsType) !== isCounter(earlier.tsType)) return false;
  const a = timestamp64(later);
  const b = timestamp64(earlier);
  const high = (word(a, 0) - word(b, 0)) | 0;
  const low = word(a, 4) - word(b, 4);
  if (isCounter(later.tsType)) return low > 0;
  return high === 0 ? low > 0 : high > 0;
}

/**
 * Checks a received T against the clock (RFC 3830 §5.3, §5.4). A COUNTER tells no time and passes.
 * @param skewMs the accepted distance either way, milliseconds
 * @returns T as milliseconds since 1970, undefined for a COUNTER
 * @throws MikeyError `mikey.timestamp` that says how far the clocks are apart
 */
export function checkTimestamp(timestamp: Timestamp, now: number, skewMs: number): number | undefined {
  if (isCounter(timestamp.tsType)) return undefined;
  if (entryOf(TimestampType, timestamp.tsType) === undefined) {
    throw new MikeyError("mikey.timestamp", `timestamp type ${timestamp.tsType} is not supported`);
  }
  const time = decodeNtp(timestamp.value, now);
  const distance = time - now;
  if (Math.abs(distance) > skewMs) {
    const direction = distance < 0 ? "behind" : "ahead of";
    throw new MikeyError(
      "mikey.timestamp",
      `the sender's clock is ${formatDuration(Math.abs(distance))} ${direction} ours, ${formatDuration(skewMs)} are accepted: set the clocks (NTP)`,
    );
  }
  return time;
}

function formatDuration(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1000);
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

/** Gives every message of one Initiator its T: unique and strictly increasing (RFC 3830 §5.2). */
export interface TimestampSource {
  /**
   * @param after a T that the result has to exceed beside the ones given before, e.g. the last one of a CSB
   * @throws MikeyError `mikey.option` when a COUNTER has run out, or `after` is of another kind
   */
  next(after?: Timestamp): Timestamp;
}

export interface TimestampSourceOptions {
  /** Default NTP-UTC. */
  readonly tsType?: number;
  /** The last T that was used, from before a restart: what follows is greater even when the clock went back. */
  readonly last?: Uint8Array;
}

/**
 * A source on a clock. Where the clock stands still or goes back, the last T plus one unit in the last place is given,
 * because two messages with one T would encrypt with one keystream (RFC 3830 §4.2.3).
 */
export function createTimestampSource(clock: Clock, options: TimestampSourceOptions = {}): TimestampSource {
  const tsType = options.tsType ?? TimestampType.NTP_UTC;
  const row = entryOf(TimestampType, tsType);
  if (row === undefined) throw new MikeyError("mikey.option", `timestamp type ${tsType} is not supported`);
  const length = row.octets;
  if (options.last !== undefined && options.last.length !== length) {
    throw new MikeyError("mikey.option", `the last timestamp has ${options.last.length} octets where ${length} belong`);
  }
  let last: Uint8Array | undefined = options.last?.slice();
  return {
    next(after) {
      if (after !== undefined) {
        if (after.value.length !== length || isCounter(after.tsType) !== isCounter(tsType)) {
          throw new MikeyError("mikey.option", "the timestamps of one crypto session bundle are of one kind");
        }
        if (last === undefined || isNewer(after, { tsType, value: last })) last = after.value;
      }
      const value = isCounter(tsType) ? counted(last) : timed(encodeNtp(clock.now()).slice(0, length), last, tsType);
      last = value;
      return { tsType, value: value.slice() };
    },
  };
}

function counted(last: Uint8Array | undefined): Uint8Array {
  const value = last === undefined ? new Uint8Array(4) : last.slice();
  if (value.every((octet) => octet === 0xff))
    throw new MikeyError("mikey.option", "the timestamp counter has run out: a new key is needed");
  increment(value);
  return value;
}

function timed(now: Uint8Array, last: Uint8Array | undefined, tsType: number): Uint8Array {
  if (last === undefined || isNewer({ tsType, value: now }, { tsType, value: last })) return now;
  const next = last.slice();
  increment(next);
  return next;
}

/** Adds one unit in the last place, modulo the length. */
function increment(value: Uint8Array): void {
  for (let i = value.length - 1; i >= 0; i--) {
    value[i] = ((value[i] as number) + 1) & 0xff;
    if (value[i] !== 0) return;
  }
}
