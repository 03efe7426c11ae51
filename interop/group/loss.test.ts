import { setTimeout as delay } from "node:timers/promises";
import { expect, it } from "vitest";
import { createNetwork, describeNamespaces } from "../namespaces.js";
import { describePeer } from "../peers.js";
import { administer, CONTROL, joinGroup, MEDIA, settled, speak, startKeyServer, startRelay, tap } from "./parties.js";

/** Five copies within 1.9 s, before senders switch: one rekey message in 100,000 is lost. */
const REKEY = {
  heartbeat: 1,
  activationDelay: 2,
  deactivationDelay: 6,
  retransmissions: 4,
  retransmissionInterval: 0.1,
  resynchronisationDelay: 0.5,
};
const LOSS = 0.1;
const SPACE = 0x1_0000;

describePeer("ffmpeg", "speaks to a group [speaks to our groups]", () => {
  describeNamespaces("over a segment that loses one packet in ten, and is cut off", () => {
    it("whose members hear all that the network delivers, and come back by themselves", { timeout: 85_000 }, async (test) => {
      const network = createNetwork(test, { near: ["gcks", "speaker", "one", "relay"], far: ["relay", "two", "three"] });
      const place = (name: string) => network.place(name);
      const server = await startKeyServer(test, place("gcks"), REKEY);
      const relay = await startRelay(test, place("relay"), "near", "far", LOSS);
      const [near, ...far] = await Promise.all(["one", "two", "three"].map((name) => tap(test, place(name))));
      if (near === undefined) throw new Error("nobody hears");
      const [speaker, one, two, three] = await Promise.all([
        joinGroup(test, server, place("speaker"), "speaker", "rtsp"),
        joinGroup(test, server, place("one"), "one", "sip"),
        joinGroup(test, server, place("two"), "two", "rtsp"),
        joinGroup(test, server, place("three"), "three", "sip"),
      ]);
      const members = [speaker, one, two, three];
      await settled(members);
      // Who joined last has no key of before.
      await delay(1000 * REKEY.activationDelay);
      const voice = speak(test, place("speaker"), 80);
      await near.more(50);
      const rekey = async (): Promise<number> => {
        await administer(test, server, "rekey", "blue");
        await settled([speaker, one]);
        return one.sequence;
      };
      for (let turn = 0; turn < 2; turn++) {
        await rekey();
        await settled(members);
      }
      await near.more(80);

      // Cut off for long enough that the sender switches to keys that nobody over there has.
      await relay.toggle();
      network.plug("relay", "far", false);
      const cut = near.heard.last;
      const sequence = await rekey();
      await near.more(110);
      expect(Math.max(two.sequence, three.sequence)).toBeLessThan(sequence);
      network.plug("relay", "far", true);
      await relay.toggle();
      // Connections of TCP come back when they like.
      await settled(members, sequence, 40_000);
      // They registered anew, and get no key of before either.
      await delay(1000 * REKEY.activationDelay);
      await near.more(10);
      const healed = near.heard.last;
      await near.more(75);
      await rekey();
      await settled(members);
      await near.more(25);
      await voice.stop("SIGINT");
      await delay(500);
      await administer(test, server, "end", "blue");
      for (const member of members) expect((await member.process.ended).code, member.process.stderr).toBe(0);

      const relayed = await relay.stop();
      const packets = await near.stopped();
      // The sequence numbers that the relay saw are those of the sender; which frame is which tells who missed none.
      const [first] = packets;
      if (first === undefined) throw new Error("nothing was heard");
      expect(packets.map(({ frame }) => frame)).toEqual(packets.map((_, index) => first.frame + index));
      expect(one.statistics).toMatchObject({ received: speaker.statistics.sent, refused: 0, unknownKey: 0 });
      const frameOf = (sequenceNumber: number): number => first.frame + ((sequenceNumber - first.sequence + SPACE) % SPACE);
      const delivered = (relayed[MEDIA]?.sequences ?? []).map(frameOf);
      const judged = (frames: readonly number[]): number[] => frames.filter((frame) => frame <= cut || frame > healed);
      for (const listener of far) {
        const frames = await listener.stop();
        expect(judged(frames)).toEqual(judged(delivered));
        expect(judged(frames).length).toBeGreaterThan(200);
      }
      expect(two.statistics.refused + three.statistics.refused).toBe(0);
      for (const name of [MEDIA, CONTROL]) expect(relayed[name]?.lost, name).toBeGreaterThan(0);
    });
  });
});
