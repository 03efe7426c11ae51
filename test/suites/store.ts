import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { utf8, utf8Text } from "../../src/bytes/index.js";
import {
  type Lease,
  MAX_NAME_OCTETS,
  MAX_RECORD_OCTETS,
  NO_VERSION,
  type Rec,
  type Store,
  StoreConflict,
  TTL_CLASSES,
  type Ver,
} from "../../src/store/index.js";

/** How the suite gets stores of an engine, all on the same data and in simulated time. Leases last 1000 ms. */
export interface StoreRig {
  /** One more handle on the data. Closing all and opening again is a restart. */
  open(): Promise<Store>;
  /** Lets simulated time pass. */
  advance(milliseconds: number): Promise<void>;
  dispose(): Promise<void>;
}

const GROUP = "sip:team@example.org";

/** What every engine must do. */
export function describeStore(name: string, createRig: () => Promise<StoreRig>): void {
  describe(`Store ${name}`, () => {
    let rig: StoreRig;
    let store: Store;
    const opened: Store[] = [];
    const open = async (): Promise<Store> => {
      const one = await rig.open();
      opened.push(one);
      return one;
    };

    beforeEach(async () => {
      rig = await createRig();
      store = await open();
    });
    afterEach(async () => {
      await Promise.all(opened.splice(0).map((one) => one.close()));
      await rig.dispose();
    });

    const restart = async (): Promise<Store> => {
      await Promise.all(opened.splice(0).map((one) => one.close()));
      return await open();
    };

    /** Waits in real time for the engine and lets simulated time pass for its timers. */
    const until = async (holds: () => boolean): Promise<void> => {
      while (!holds()) {
        await rig.advance(50);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    };

    /** Appends `count` records to the end of a log. */
    const fill = async (group: string, count: number, on = store): Promise<Rec[]> => {
      const head = await on.head(group);
      let [expected, gseq] = [head?.ver ?? NO_VERSION, head?.gseq ?? 0];
      const made: Rec[] = [];
      for (let i = 0; i < count; i++) {
        gseq++;
        const record = { gseq, id: `${group} ${gseq}`, data: utf8(`record ${gseq} of ${group}`) };
        const ver = await on.append(group, expected, record);
        made.push({ group, ver, prev: expected, ...record });
        expected = ver;
      }
      return made;
    };

    describe("appending", () => {
      it("makes records that follow each other, with growing versions over all logs", async () => {
        expect(await store.head(GROUP)).toBeNull();
        const before = await store.latest();
        const first = await store.append(GROUP, NO_VERSION, { gseq: 0, id: "a", data: utf8("one") });
        const other = await store.append("other", NO_VERSION, { gseq: 7, id: "a", data: new Uint8Array(0) });
        const second = await store.append(GROUP, first, { gseq: 65_536, id: "b", data: utf8("two") });
        expect(before < first && NO_VERSION < first && other > first && second > other).toBe(true);
        expect(await store.head(GROUP)).toEqual({
          group: GROUP,
          ver: second,
          prev: first,
          gseq: 65_536,
          id: "b",
          data: utf8("two"),
        });
        expect(await store.head("other")).toEqual({
          group: "other",
          ver: other,
          prev: NO_VERSION,
          gseq: 7,
          id: "a",
          data: new Uint8Array(0),
        });
        expect(await store.latest()).toBe(second);
      });

      it("refuses a record where another one is than expected, and says which", async () => {
        const [one, two] = (await fill(GROUP, 2)) as [Rec, Rec];
        const record = { gseq: 9, id: "late", data: utf8("late") };
        for (const expected of [NO_VERSION, one.ver, two.ver + 1n, -1n, 1n << 70n]) {
          const error = await store.append(GROUP, expected, record).catch((thrown: unknown) => thrown);
          expect(error).toBeInstanceOf(StoreConflict);
          expect(error).toMatchObject({ code: "store.conflict", head: two.ver });
        }
        const empty = await store.append("empty", one.ver, record).catch((thrown: unknown) => thrown);
        expect(empty).toMatchObject({ code: "store.conflict", head: NO_VERSION });
        expect(await store.head("empty")).toBeNull();
        expect(await collect(store.read(GROUP, NO_VERSION))).toEqual([one, two]);
      });

      it("lets exactly one of many win, over several handles", async () => {
        const handles = [store, await open(), await open()];
        let [expected, gseq] = [NO_VERSION, 0];
        for (let round = 0; round < 10; round++) {
          gseq++;
          const tries = handles.flatMap((handle, h) =>
            [0, 1, 2].map((i) => handle.append(GROUP, expected, { gseq, id: `${round} ${h} ${i}`, data: utf8(`${h} ${i}`) })),
          );
          const outcomes = await Promise.allSettled(tries);
          const won = outcomes.flatMap((outcome, i) => (outcome.status === "fulfilled" ? [[outcome.value, i] as const] : []));
          expect(won).toHaveLength(1);
          const [ver, winner] = won[0] as readonly [Ver, number];
          for (const outcome of outcomes) {
            if (outcome.status === "rejected") expect(outcome.reason).toMatchObject({ code: "store.conflict", head: ver });
          }
          for (const handle of handles)
            expect((await handle.head(GROUP))?.id).toBe(`${round} ${Math.floor(winner / 3)} ${winner % 3}`);
          expected = ver;
        }
        expect(await collect(store.read(GROUP, NO_VERSION))).toHaveLength(10);
      });

      it("does a repeated append once, also when others came after it", async () => {
        const record = { gseq: 1, id: "attempt", data: utf8("x") };
        const ver = await store.append(GROUP, NO_VERSION, record);
        const other = await open();
        expect(await other.append(GROUP, NO_VERSION, record)).toBe(ver);
        const next = await other.append(GROUP, ver, { gseq: 2, id: "next", data: utf8("y") });
        expect(await store.append(GROUP, NO_VERSION, record)).toBe(ver);
        expect(await store.append(GROUP, ver, { gseq: 2, id: "next", data: utf8("y") })).toBe(next);
        await expect(store.append(GROUP, NO_VERSION, { ...record, id: "another" })).rejects.toMatchObject({
          code: "store.conflict",
        });
        await expect(store.append(GROUP, NO_VERSION, { ...record, gseq: 3 })).rejects.toMatchObject({ code: "store.conflict" });
        await expect(store.append(GROUP, ver, { ...record, gseq: 3 })).rejects.toMatchObject({ code: "store.conflict" });
        expect(await collect(store.read(GROUP, NO_VERSION))).toHaveLength(2);
      });

      it("demands that gseq grows", async () => {
        const ver = await store.append(GROUP, NO_VERSION, { gseq: 5, id: "a", data: utf8("x") });
        for (const gseq of [5, 4, 0, -1, 5.5, Number.NaN, 2 ** 53]) {
          await expect(store.append(GROUP, ver, { gseq, id: "b", data: utf8("y") })).rejects.toMatchObject({
            code: "store.sequence",
          });
        }
        const last = await store.append(GROUP, ver, { gseq: Number.MAX_SAFE_INTEGER, id: "c", data: utf8("z") });
        expect(await store.head(GROUP)).toMatchObject({ ver: last, gseq: Number.MAX_SAFE_INTEGER });
      });

      it("copies the octets at once, and gives copies", async () => {
        const data = utf8("as it was");
        const appending = store.append(GROUP, NO_VERSION, { gseq: 1, id: "a", data });
        data.fill(0);
        const ver = await appending;
        (await store.head(GROUP))?.data.fill(0);
        expect(utf8Text((await store.head(GROUP))?.data as Uint8Array)).toBe("as it was");
        const state = utf8("state");
        const putting = store.putSnapshot(GROUP, ver, state);
        state.fill(0);
        await putting;
        (await store.getSnapshot(GROUP))?.data.fill(0);
        expect(utf8Text((await store.getSnapshot(GROUP))?.data as Uint8Array)).toBe("state");
      });

      it("keeps the octets of a view alone, and not those around it", async () => {
        const around = new Uint8Array(100).fill(7);
        await store.append(GROUP, NO_VERSION, { gseq: 1, id: "a", data: around.subarray(10, 13) });
        expect((await store.head(GROUP))?.data).toEqual(Uint8Array.of(7, 7, 7));
        expect(around).toEqual(new Uint8Array(100).fill(7));
      });

      it("keeps big records, and refuses those beyond the limit", async () => {
        const big = Uint8Array.from({ length: 3_000_000 }, (_, i) => (i * 2_654_435_761) >>> 24);
        const ver = await store.append(GROUP, NO_VERSION, { gseq: 1, id: "big", data: big });
        await store.append(GROUP, ver, { gseq: 2, id: "also", data: big });
        const read = await collect((await restart()).read(GROUP, NO_VERSION));
        expect(read.map(({ data }) => Buffer.compare(data, big))).toEqual([0, 0]);
        const head = (await opened[0]?.head(GROUP))?.ver as Ver;
        const tooBig = { gseq: 3, id: "c", data: new Uint8Array(MAX_RECORD_OCTETS + 1) };
        await expect(opened[0]?.append(GROUP, head, tooBig)).rejects.toMatchObject({ code: "store.too-large" });
      });

      it("takes any name that is text, and no other", async () => {
        const longest = "é".repeat(MAX_NAME_OCTETS / 2);
        for (const group of ["x", " ", "'; DROP TABLE records; --", "日本語 👥", longest]) {
          const ver = await store.append(group, NO_VERSION, { gseq: 1, id: group, data: utf8(group) });
          expect(await store.head(group)).toMatchObject({ group, ver, id: group });
          expect(await store.claim(group, "10m")).toBe(true);
          expect(await store.claim(group, "10m")).toBe(false);
          expect((await store.lease(group, group))?.token).toBe(1n);
        }
        const record = { gseq: 1, id: "a", data: new Uint8Array(1) };
        for (const bad of ["", `${longest}x`, "a\0b", "a\nb", "\ud800"]) {
          const refused = { code: "store.name" };
          await expect(store.append(bad, NO_VERSION, record)).rejects.toMatchObject(refused);
          await expect(store.append(GROUP, NO_VERSION, { ...record, id: bad })).rejects.toMatchObject(refused);
          await expect(store.head(bad)).rejects.toMatchObject(refused);
          await expect(collect(store.read(bad, NO_VERSION))).rejects.toMatchObject(refused);
          await expect(collect(store.watch({ group: bad }, NO_VERSION, new AbortController().signal))).rejects.toMatchObject(
            refused,
          );
          await expect(store.putSnapshot(bad, NO_VERSION, record.data)).rejects.toMatchObject(refused);
          await expect(store.getSnapshot(bad)).rejects.toMatchObject(refused);
          await expect(store.claim(bad, "1h")).rejects.toMatchObject(refused);
          await expect(store.lease(bad, "me")).rejects.toMatchObject(refused);
          await expect(store.lease(GROUP, bad)).rejects.toMatchObject(refused);
          if (bad !== "") await expect(store.groups(bad)).rejects.toMatchObject(refused);
        }
      });
    });

    describe("reading", () => {
      it("gives the records above a version in order, at most as many as wanted", async () => {
        const made = await fill(GROUP, 5);
        await fill("other", 3);
        const ver = (i: number): Ver => (made[i] as Rec).ver;
        expect(await collect(store.read(GROUP, NO_VERSION))).toEqual(made);
        expect(await collect(store.read(GROUP, ver(1)))).toEqual(made.slice(2));
        expect(await collect(store.read(GROUP, NO_VERSION, 2))).toEqual(made.slice(0, 2));
        expect(await collect(store.read(GROUP, ver(0), 0))).toEqual([]);
        expect(await collect(store.read(GROUP, ver(4)))).toEqual([]);
        expect(await collect(store.read(GROUP, 1n << 80n))).toEqual([]);
        expect(await collect(store.read("nobody", NO_VERSION))).toEqual([]);
      });

      it("reads a long log to its end, whatever its records weigh", async () => {
        const expected: number[] = [];
        let ver = NO_VERSION;
        for (let gseq = 1; gseq <= 700; gseq++) {
          // A few of them fill a page alone.
          const length = gseq % 100 === 0 ? 1_200_000 : gseq % 7;
          ver = await store.append(GROUP, ver, { gseq, id: `${gseq}`, data: new Uint8Array(length) });
          expected.push(length);
        }
        expect((await collect(store.read(GROUP, NO_VERSION))).map(({ data }) => data.length)).toEqual(expected);
        expect((await collect(store.read(GROUP, NO_VERSION, 650))).map(({ gseq }) => gseq).at(-1)).toBe(650);
      });

      it("lists the logs that begin alike", async () => {
        for (const group of ["b/2", "b/1", "a", "b", "c", "b\u{10ffff}", "b\uffff"]) await fill(group, 1);
        expect(await store.groups("")).toEqual(["a", "b", "b/1", "b/2", "b\uffff", "b\u{10ffff}", "c"]);
        expect(await store.groups("b/")).toEqual(["b/1", "b/2"]);
        expect(await store.groups("d")).toEqual([]);
      });
    });

    describe("watching", () => {
      it("replays, then goes on live, until it is aborted", async () => {
        const before = await fill(GROUP, 3);
        const abort = new AbortController();
        const seen: Rec[] = [];
        const watching = gather(store.watch({ group: GROUP }, (before[0] as Rec).ver, abort.signal), seen);
        await until(() => seen.length === 2);
        await fill("other", 2);
        const after = await fill(GROUP, 3);
        await until(() => seen.length === 5);
        abort.abort();
        await watching;
        expect(seen).toEqual([...before.slice(1), ...after]);
        await fill(GROUP, 1);
        expect(seen).toHaveLength(5);
      });

      it("watches many logs by their beginning, in the order of versions", async () => {
        await fill("team/b", 2);
        const abort = new AbortController();
        const [team, all]: [Rec[], Rec[]] = [[], []];
        const watching = [
          gather(store.watch({ prefix: "team/" }, NO_VERSION, abort.signal), team),
          gather(store.watch({ prefix: "" }, NO_VERSION, abort.signal), all),
        ];
        await fill("team/a", 2);
        await fill("elsewhere", 2);
        await fill("team/b", 1);
        await until(() => team.length === 5 && all.length === 7);
        abort.abort();
        await Promise.all(watching);
        expect(team.map(({ group, gseq }) => `${group} ${gseq}`)).toEqual([
          "team/b 1",
          "team/b 2",
          "team/a 1",
          "team/a 2",
          "team/b 3",
        ]);
        expect(all.map(({ ver }) => ver)).toEqual(all.map(({ ver }) => ver).toSorted((a, b) => (a < b ? -1 : 1)));
      });

      it("sees what other handles append", async () => {
        const other = await open();
        const abort = new AbortController();
        const seen: Rec[] = [];
        const watching = gather(store.watch({ group: GROUP }, NO_VERSION, abort.signal), seen);
        const made = await fill(GROUP, 4, other);
        await until(() => seen.length === 4);
        made.push(...(await fill(GROUP, 2, other)));
        await until(() => seen.length === 6);
        abort.abort();
        await watching;
        expect(seen).toEqual(made);
      });

      it("misses nothing and repeats nothing while it replays and others append", async () => {
        await fill(GROUP, 100);
        const abort = new AbortController();
        const seen: Rec[] = [];
        const watching = gather(store.watch({ group: GROUP }, NO_VERSION, abort.signal), seen);
        await fill(GROUP, 400);
        await until(() => seen.length >= 500);
        abort.abort();
        await watching;
        expect(seen.map(({ gseq }) => gseq)).toEqual(Array.from({ length: 500 }, (_, i) => i + 1));
      });

      it("ends at once where it is aborted before, while it waits, and in the middle of a page", async () => {
        await fill(GROUP, 10);
        expect(await collect(store.watch({ group: GROUP }, NO_VERSION, AbortSignal.abort()))).toEqual([]);
        const idle = new AbortController();
        const waiting = collect(store.watch({ group: "idle" }, NO_VERSION, idle.signal));
        await rig.advance(100);
        idle.abort();
        expect(await waiting).toEqual([]);
        const middle = new AbortController();
        let count = 0;
        for await (const _ of store.watch({ group: GROUP }, NO_VERSION, middle.signal)) if (++count === 3) middle.abort();
        expect(count).toBe(3);
        for await (const _ of store.watch({ group: GROUP }, NO_VERSION, new AbortController().signal)) break;
      });
    });

    describe("snapshots", () => {
      it("stand for the records before them, and keep the newest record", async () => {
        const made = await fill(GROUP, 4);
        const ver = (i: number): Ver => (made[i] as Rec).ver;
        expect(await store.getSnapshot(GROUP)).toBeNull();
        await store.putSnapshot(GROUP, ver(1), utf8("two"));
        expect(await store.getSnapshot(GROUP)).toEqual({ at: ver(1), gseq: 2, data: utf8("two") });
        expect(await collect(store.read(GROUP, ver(1)))).toEqual(made.slice(2));
        await store.putSnapshot(GROUP, ver(3), utf8("four"));
        expect(await store.getSnapshot(GROUP)).toEqual({ at: ver(3), gseq: 4, data: utf8("four") });
        expect(await store.head(GROUP)).toEqual(made[3]);
        expect(await collect(store.read(GROUP, ver(3)))).toEqual([]);
        const [fifth] = (await fill(GROUP, 1)) as [Rec];
        expect(fifth.prev).toBe(ver(3));
        expect(fifth.ver > ver(3)).toBe(true);
        await store.putSnapshot(GROUP, ver(3), utf8("again"));
        const restarted = await restart();
        expect(await restarted.getSnapshot(GROUP)).toEqual({ at: ver(3), gseq: 4, data: utf8("again") });
        expect(await collect(restarted.read(GROUP, ver(3)))).toEqual([fifth]);
      });

      it("are refused at a record that is not there or that is older than the last", async () => {
        const made = await fill(GROUP, 3);
        const [other] = (await fill("other", 1)) as [Rec];
        const head = (made[2] as Rec).ver;
        await store.putSnapshot(GROUP, (made[1] as Rec).ver, utf8("two"));
        for (const at of [NO_VERSION, (made[0] as Rec).ver, other.ver, head + 100n, -5n, 1n << 70n]) {
          await expect(store.putSnapshot(GROUP, at, utf8("x"))).rejects.toMatchObject({ code: "store.conflict", head });
        }
        await expect(store.putSnapshot("none", NO_VERSION, utf8("x"))).rejects.toMatchObject({
          code: "store.conflict",
          head: NO_VERSION,
        });
        expect((await store.getSnapshot(GROUP))?.data).toEqual(utf8("two"));
      });

      it("tell a reader that comes too late that records are gone", async () => {
        const made = await fill(GROUP, 5);
        const ver = (i: number): Ver => (made[i] as Rec).ver;
        await store.putSnapshot(GROUP, ver(0), utf8("one"));
        expect(await collect(store.read(GROUP, NO_VERSION))).toEqual(made);
        await store.putSnapshot(GROUP, ver(2), utf8("three"));
        for (const after of [NO_VERSION, ver(0)]) {
          await expect(collect(store.read(GROUP, after))).rejects.toMatchObject({ code: "store.dropped" });
          const watch = store.watch({ group: GROUP }, after, new AbortController().signal);
          await expect(collect(watch)).rejects.toMatchObject({ code: "store.dropped" });
        }
        expect(await collect(store.read(GROUP, ver(1)))).toEqual(made.slice(2));
      });

      it("tell a reader under way that records are gone, or let it reach the end", async () => {
        await fill(GROUP, 600);
        const head = await store.head(GROUP);
        const seen: number[] = [];
        const reading = (async () => {
          for await (const { gseq } of store.read(GROUP, NO_VERSION)) {
            if (seen.push(gseq) === 1) await store.putSnapshot(GROUP, head?.ver as Ver, utf8("all"));
          }
        })();
        await expect(reading).rejects.toMatchObject({ code: "store.dropped" });
        expect(seen).toEqual(Array.from({ length: seen.length }, (_, i) => i + 1));
        expect(seen.length).toBeLessThan(600);
      });

      it("show a watcher of many logs by `prev` that records are gone", async () => {
        const made = await fill(GROUP, 3);
        await store.putSnapshot(GROUP, (made[2] as Rec).ver, utf8("three"));
        for await (const record of store.watch({ prefix: "" }, NO_VERSION, new AbortController().signal)) {
          expect(record).toEqual(made[2]);
          expect(record.prev > NO_VERSION).toBe(true);
          break;
        }
      });
    });

    describe("claims", () => {
      it("are granted once, to one handle", async () => {
        const other = await open();
        expect(await store.claim("a", "10m")).toBe(true);
        expect(await other.claim("a", "10m")).toBe(false);
        expect(await other.claim("b", "forever")).toBe(true);
        const racing = await Promise.all(Array.from({ length: 40 }, (_, i) => [store, other][i % 2]?.claim(`k${i >> 2}`, "1h")));
        expect(racing.filter(Boolean)).toHaveLength(10);
        const restarted = await restart();
        for (const key of ["a", "b", "k0", "k9"]) expect(await restarted.claim(key, "10m")).toBe(false);
      });

      it.each(["10m", "1h", "1d"] as const)("are kept for %s at least, and then forgotten", async (ttlClass) => {
        expect(await store.claim("x", ttlClass)).toBe(true);
        await rig.advance(TTL_CLASSES[ttlClass] - 1);
        // Claims of others clear away what has expired.
        for (let i = 0; i < 10; i++) await store.claim(`y${i}`, "10m");
        expect(await store.claim("x", "10m")).toBe(false);
        await rig.advance(1);
        expect(await store.claim("x", ttlClass)).toBe(true);
        expect(await store.claim("x", ttlClass)).toBe(false);
      });

      it("for ever are kept for ever", async () => {
        expect(await store.claim("x", "forever")).toBe(true);
        await rig.advance(400 * 86_400_000);
        for (let i = 0; i < 10; i++) await store.claim(`y${i}`, "10m");
        expect(await store.claim("x", "10m")).toBe(false);
      });
    });

    describe("leases", () => {
      const take = async (on: Store, owner: string): Promise<Lease> => {
        const lease = await on.lease(GROUP, owner);
        expect(lease).not.toBeNull();
        return lease as Lease;
      };

      it("are for one owner at a time, until they expire", async () => {
        const other = await open();
        const first = await take(store, "one");
        expect(await other.lease(GROUP, "two")).toBeNull();
        expect((await other.lease("another group", "two"))?.token).toBe(1n);
        await rig.advance(999);
        expect(await other.lease(GROUP, "two")).toBeNull();
        expect(first.lost.aborted).toBe(false);
        await rig.advance(1);
        expect(first.lost.aborted).toBe(true);
        expect(await first.renew()).toBe(false);
        const second = await take(other, "two");
        expect(second.token > first.token).toBe(true);
        // What is lost is no longer given back.
        await first.release();
        expect(await store.lease(GROUP, "one")).toBeNull();
        expect(second.lost.aborted).toBe(false);
      });

      it("last anew when they are renewed", async () => {
        const other = await open();
        const lease = await take(store, "one");
        for (let i = 0; i < 5; i++) {
          await rig.advance(700);
          expect(await lease.renew()).toBe(true);
          expect(await other.lease(GROUP, "two")).toBeNull();
        }
        await rig.advance(999);
        expect(lease.lost.aborted).toBe(false);
        await rig.advance(1);
        expect(lease.lost.aborted).toBe(true);
      });

      it("can be given back at once", async () => {
        const other = await open();
        const first = await take(store, "one");
        await first.release();
        expect(first.lost.aborted).toBe(true);
        expect(await first.renew()).toBe(false);
        await first.release();
        expect((await take(other, "two")).token).toBe(first.token + 1n);
      });

      it("are had anew by the same owner, which ends what it had before", async () => {
        const before = await take(store, "one");
        const after = await take(await open(), "one");
        expect(after.token).toBe(before.token + 1n);
        expect(await before.renew()).toBe(false);
        expect(before.lost.aborted).toBe(true);
        expect(await after.renew()).toBe(true);
        expect(await store.lease(GROUP, "two")).toBeNull();
      });

      it("are given back by a store that closes, and tokens go on growing", async () => {
        const first = await take(store, "one");
        const second = await take(await restart(), "two");
        expect(first.lost.aborted).toBe(true);
        expect(second.token).toBe(first.token + 1n);
      });
    });

    describe("closing", () => {
      it("finishes what was begun", async () => {
        const appending = Array.from({ length: 20 }, (_, i) =>
          store.append(`g${i}`, NO_VERSION, { gseq: 1, id: "a", data: utf8(`${i}`) }),
        );
        const claiming = store.claim("k", "1h");
        await Promise.all([store.close(), store.close()]);
        await Promise.all(appending);
        expect(await claiming).toBe(true);
        const restarted = await restart();
        expect(await restarted.groups("g")).toHaveLength(20);
        expect(await restarted.claim("k", "1h")).toBe(false);
      });

      it("ends watchers, and refuses everything else", async () => {
        await fill(GROUP, 1);
        const seen: Rec[] = [];
        const watching = gather(store.watch({ group: GROUP }, NO_VERSION, new AbortController().signal), seen);
        watching.catch(() => undefined);
        await until(() => seen.length === 1);
        await store.close();
        const closed = { code: "store.closed" };
        await expect(watching).rejects.toMatchObject(closed);
        await expect(store.append(GROUP, NO_VERSION, { gseq: 1, id: "a", data: new Uint8Array(1) })).rejects.toMatchObject(closed);
        await expect(store.head(GROUP)).rejects.toMatchObject(closed);
        await expect(collect(store.read(GROUP, NO_VERSION))).rejects.toMatchObject(closed);
        const late = store.watch({ group: GROUP }, NO_VERSION, new AbortController().signal);
        await expect(collect(late)).rejects.toMatchObject(closed);
        await expect(store.latest()).rejects.toMatchObject(closed);
        await expect(store.groups("")).rejects.toMatchObject(closed);
        await expect(store.putSnapshot(GROUP, 1n, new Uint8Array(1))).rejects.toMatchObject(closed);
        await expect(store.getSnapshot(GROUP)).rejects.toMatchObject(closed);
        await expect(store.claim("k", "1h")).rejects.toMatchObject(closed);
        await expect(store.lease(GROUP, "me")).rejects.toMatchObject(closed);
      });
    });

    it("behaves like its model, whatever is done in whatever order, restarts between", async () => {
      const command = fc.oneof(
        {
          weight: 6,
          arbitrary: fc.record({ kind: fc.constant("append" as const), log: fc.nat(2), stale: fc.nat(3), skip: fc.nat(2) }),
        },
        { weight: 3, arbitrary: fc.record({ kind: fc.constant("repeat" as const), log: fc.nat(2) }) },
        { weight: 4, arbitrary: fc.record({ kind: fc.constant("snapshot" as const), log: fc.nat(2), place: fc.nat(8) }) },
        { weight: 3, arbitrary: fc.record({ kind: fc.constant("claim" as const), key: fc.nat(4) }) },
        { weight: 6, arbitrary: fc.record({ kind: fc.constant("check" as const), log: fc.nat(2) }) },
        // Some engines take their time for it.
        { weight: 1, arbitrary: fc.record({ kind: fc.constant("restart" as const) }) },
      );
      let run = 0;
      await fc.assert(
        fc.asyncProperty(fc.array(command, { maxLength: 40 }), async (commands) => {
          run++;
          let current = opened[0] as Store;
          const model = [0, 1, 2].map(() => ({ all: [] as Rec[], kept: 0, state: "" }));
          const claimed = new Set<number>();
          for (const [step, one] of commands.entries()) {
            const log = "log" in one ? (model[one.log] as (typeof model)[number]) : undefined;
            const group = "log" in one ? `run ${run} log ${one.log}` : "";
            const head = log?.all.at(-1);
            if (one.kind === "append") {
              const expected = log?.all.at(-1 - one.stale)?.ver ?? NO_VERSION;
              const gseq = (head?.gseq ?? 0) + one.skip;
              const record = { gseq, id: `${step}`, data: utf8(`${step}`) };
              const outcome = await current.append(group, expected, record).catch((error: { code: string }) => error.code);
              if (expected !== (head?.ver ?? NO_VERSION)) expect(outcome).toBe("store.conflict");
              else if (head !== undefined && one.skip === 0) expect(outcome).toBe("store.sequence");
              else {
                expect(outcome).toBeTypeOf("bigint");
                log?.all.push({ group, ver: outcome as Ver, prev: expected, ...record });
              }
            } else if (one.kind === "repeat" && head !== undefined) {
              expect(await current.append(group, head.prev, head)).toBe(head.ver);
            } else if (one.kind === "snapshot" && log !== undefined) {
              const at = log.all[one.place];
              const outcome = await current
                .putSnapshot(group, at?.ver ?? NO_VERSION, utf8(`${step}`))
                .catch((error: { code: string }) => error.code);
              expect(outcome).toBe(at === undefined || one.place < log.kept ? "store.conflict" : undefined);
              if (outcome === undefined) [log.kept, log.state] = [one.place, `${step}`];
            } else if (one.kind === "claim") {
              expect(await current.claim(`run ${run} ${one.key}`, "1d")).toBe(!claimed.has(one.key));
              claimed.add(one.key);
            } else if (one.kind === "restart") {
              current = await restart();
            } else if (one.kind === "check" && log !== undefined) {
              expect(await current.head(group)).toEqual(head ?? null);
              const from = log.all[log.kept];
              expect(await collect(current.read(group, from?.prev ?? NO_VERSION))).toEqual(log.all.slice(log.kept));
              const snapshot = await current.getSnapshot(group);
              expect(snapshot).toEqual(log.state === "" ? null : { at: from?.ver, gseq: from?.gseq, data: utf8(log.state) });
            }
          }
        }),
        { numRuns: 25 },
      );
    });
  });
}

async function collect(records: AsyncIterable<Rec>): Promise<Rec[]> {
  const all: Rec[] = [];
  await gather(records, all);
  return all;
}

async function gather(records: AsyncIterable<Rec>, into: Rec[]): Promise<void> {
  for await (const record of records) into.push(record);
}
