import { setTimeout as delay } from "node:timers/promises";
import { expect, it } from "vitest";
import { createNetwork, describeNamespaces } from "../namespaces.js";
import { describePeer } from "../peers.js";
import {
  administer,
  CONTROL,
  conclude,
  crashKeyServer,
  joinGroup,
  LIMIT,
  MEDIA,
  type Receiver,
  receive,
  settled,
  speak,
  startKeyServer,
  startRelay,
  tap,
} from "./parties.js";

/** Five copies within 0.95 s, before senders switch: one rekey message in 100,000 is lost. */
const REKEY = {
  period: 5,
  heartbeat: 2,
  activationDelay: 1.5,
  deactivationDelay: 6,
  retransmissions: 4,
  retransmissionInterval: 0.05,
  resynchronisationDelay: 0.5,
};
/** Packets of sound from a change of keys to the moment when it counts, with what a loaded machine needs. */
const ACTIVE = 50 * REKEY.activationDelay + 25;
const LOSS = 0.1;
const SPACE = 0x1_0000;

describePeer("ffmpeg", "speaks to a group [speaks to our groups, hears our groups]", () => {
  describePeer("gstreamer", "hears it as well [hears our groups]", () => {
    describeNamespaces("over a segment that loses one packet in ten, and is cut off", () => {
      it("whose members hear all that the network delivers, over rekeys, a crash and a partition, and nothing else", {
        timeout: LIMIT,
      }, async (test) => {
        const beyond = ["two", "three", "four", "five", "late"] as const;
        const network = createNetwork(test, { near: ["gcks", "speaker", "one", "relay"], far: ["relay", ...beyond] });
        const place = (name: string) => network.place(name);
        const server = await startKeyServer(test, place("gcks"), REKEY);
        const relay = await startRelay(test, place("relay"), "near", "far", LOSS);
        const near = await tap(test, place("one"));
        const [speaker, one, two, three, four, five] = await Promise.all([
          joinGroup(test, server, place("speaker"), "speaker", "rtsp"),
          joinGroup(test, server, place("one"), "one", "sip"),
          receive(test, server, place("two"), "two", "rtsp", "ffmpeg"),
          receive(test, server, place("three"), "three", "sip", "gstreamer"),
          receive(test, server, place("four"), "four", "sip", "ffmpeg"),
          receive(test, server, place("five"), "five", "rtsp", "gstreamer"),
        ]);
        await settled([speaker, one, ...[two, three, four, five].map(({ member }) => member)]);
        // Who joined last has no key of before.
        await delay(1000 * REKEY.activationDelay);
        const voice = speak(test, place("speaker"));
        await near.more(50);

        // Somebody joins late.
        const before = near.heard.last;
        const late = await receive(test, server, place("late"), "late", "sip", "ffmpeg");
        await settled([speaker, one, ...[two, three, four, five, late].map(({ member }) => member)]);
        await near.more(ACTIVE);
        const admitted = near.heard.last;

        // Somebody is thrown out, asks, and is told so with a proof.
        const expelling = near.heard.last;
        expect(await administer(test, server, "expel", "blue", "sip:four@example.org")).toEqual({ expelled: 1 });
        const out = await four.member.process.ended;
        expect(out.code, out.stderr).toBe(3);
        const stayed = [speaker, one, ...[two, three, five, late].map(({ member }) => member)];
        await settled(stayed);
        await near.more(ACTIVE);
        const expelled = near.heard.last;

        // The key server dies, and starts again.
        await crashKeyServer(test, server, 1000);
        await settled(stayed, 0, 30_000);
        await near.more(25);

        // Cut off for long enough that the sender switches to keys that nobody over there has.
        await relay.toggle();
        network.plug("relay", "far", false);
        const cut = near.heard.last;
        await administer(test, server, "rekey", "blue");
        await settled([speaker, one]);
        const { sequence } = one;
        await near.more(ACTIVE);
        for (const { member } of [two, three, five, late]) expect(member.sequence, member.name).toBeLessThan(sequence);
        network.plug("relay", "far", true);
        await relay.toggle();
        // Connections of TCP come back when they like.
        await settled(stayed, sequence, 40_000);
        // They registered anew, and get no key of before either.
        await near.more(ACTIVE);
        const healed = near.heard.last;
        await administer(test, server, "rekey", "blue");
        await settled(stayed);
        await near.more(75);
        await conclude(test, server, voice, stayed);

        const relayed = await relay.stop();
        for (const name of [MEDIA, CONTROL]) expect(relayed[name]?.lost, name).toBeGreaterThan(0);
        // The sequence numbers that the relay saw are those of the sender; which frame is which tells who missed none.
        const packets = await near.stopped();
        const [first] = packets;
        if (first === undefined) throw new Error("nothing was heard");
        expect(packets.map(({ frame }) => frame)).toEqual(packets.map((_, index) => first.frame + index));
        expect(one.statistics).toMatchObject({ received: speaker.statistics.sent, refused: 0, unknownKey: 0 });
        const frameOf = (sequenceNumber: number): number => first.frame + ((sequenceNumber - first.sequence + SPACE) % SPACE);
        const delivered = (relayed[MEDIA]?.sequences ?? []).map(frameOf);
        const account = async ({ member, listener }: Receiver, counts: (frame: number) => boolean): Promise<number[]> => {
          const frames = await listener.stop();
          expect(frames.filter(counts), member.name).toEqual(delivered.filter(counts));
          expect(member.statistics.refused, member.name).toBe(0);
          return frames;
        };
        const whole = (frame: number): boolean => frame <= cut || frame > healed;
        for (const receiver of [two, three, five]) {
          const frames = await account(receiver, whole);
          expect(frames.filter(whole).length).toBeGreaterThan(400);
        }
        const ofLate = await account(late, (frame) => frame > admitted && whole(frame));
        expect(ofLate[0]).toBeGreaterThan(before);
        const ofFour = await account(four, (frame) => frame <= expelling);
        expect(ofFour.at(-1)).toBeLessThanOrEqual(expelled);
      });
    });
  });
});
