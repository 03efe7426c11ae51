import { setTimeout as delay } from "node:timers/promises";
import { expect, it } from "vitest";
import { createNetwork, describeNamespaces } from "../namespaces.js";
import { describePeer } from "../peers.js";
import {
  administer,
  conclude,
  crashKeyServer,
  joinGroup,
  LIMIT,
  receive,
  settled,
  speak,
  startKeyServer,
  startTape,
  tap,
} from "./parties.js";

const REKEY = {
  period: 5,
  heartbeat: 3,
  activationDelay: 0.5,
  deactivationDelay: 4,
  retransmissionInterval: 0.1,
  resynchronisationDelay: 0.5,
};

const consecutive = (frames: readonly number[]): number[] =>
  Array.from({ length: frames.length }, (_, index) => (frames[0] ?? 0) + index);

describePeer("ffmpeg", "speaks to a group and hears it [speaks to our groups, hears our groups]", () => {
  describePeer("gstreamer", "hears it as well [hears our groups]", () => {
    describeNamespaces("through members in network namespaces", () => {
      it("every packet from joining to leaving, over rekeys and a crash of the key server, and nothing else", {
        timeout: LIMIT,
      }, async (test) => {
        const names = ["gcks", "speaker", "one", "two", "three", "four", "five", "late"] as const;
        const network = createNetwork(test, { near: names });
        const place = (name: (typeof names)[number]) => network.place(name);
        const server = await startKeyServer(test, place("gcks"), REKEY);
        const one = await tap(test, place("one"));
        const tape = await startTape(test, place("late"));
        const [speaker, first, two, three, four, five] = await Promise.all([
          joinGroup(test, server, place("speaker"), "speaker", "sip"),
          joinGroup(test, server, place("one"), "one", "rtsp"),
          // Rekey messages by unicast, as for somebody without multicast.
          receive(test, server, place("two"), "two", "sip", "ffmpeg", "--unicast"),
          receive(test, server, place("three"), "three", "rtsp", "gstreamer"),
          receive(test, server, place("four"), "four", "sip", "ffmpeg"),
          receive(test, server, place("five"), "five", "rtsp", "gstreamer"),
        ]);
        await settled([speaker, first, ...[two, three, four, five].map(({ member }) => member)]);
        // Who joined last has no key of before.
        await delay(1000 * REKEY.activationDelay);
        const voice = speak(test, place("speaker"));
        await one.more(40);

        // Somebody who recorded everything joins: nothing from before is opened.
        const before = one.heard.last;
        const late = await receive(test, server, place("late"), "late", "sip", "ffmpeg");
        await settled([speaker, first, late.member]);
        const replayed = await tape.play();
        expect(replayed).toBeGreaterThan(30);
        await one.more(25);

        // Somebody leaves, and proves it.
        const gone = await five.member.leave();
        expect(gone.code, gone.stderr).toBe(0);
        expect(five.member.happenings.at(-1)).toMatchObject({ event: "left", proof: "verified" });

        // Somebody is thrown out, asks, and is told so with a proof.
        await one.more(25);
        expect(await administer(test, server, "expel", "blue", "sip:four@example.org")).toEqual({ expelled: 1 });
        const out = await four.member.process.ended;
        expect(out.code, out.stderr).toBe(3);
        const stayed = [speaker, first, two.member, three.member, late.member];
        await settled(stayed);
        await delay(1000 * REKEY.activationDelay);
        await one.more(5);
        const expelled = one.heard.last;
        await one.more(50);

        // The key server dies, and starts again; who is there goes on.
        await crashKeyServer(test, server, 1000);
        await settled(stayed);
        const sequence = Math.max(...stayed.map((member) => member.sequence));
        await administer(test, server, "rekey", "blue");
        await settled(stayed, sequence + 1);
        await one.more(50);
        await conclude(test, server, voice, stayed);

        const heard = {
          one: await one.stop(),
          two: await two.listener.stop(),
          three: await three.listener.stop(),
          four: await four.listener.stop(),
          five: await five.listener.stop(),
          late: await late.listener.stop(),
        };
        const sent = speaker.statistics.sent;
        expect(speaker.statistics).toMatchObject({ unsent: 0 });
        for (const [member, frames] of [
          [first, heard.one],
          [two.member, heard.two],
          [three.member, heard.three],
        ] as const) {
          expect(member.statistics, member.name).toMatchObject({ received: sent, refused: 0, unknownKey: 0 });
          expect(frames, member.name).toEqual(consecutive(heard.one));
          // What ffmpeg says by RTCP is among what was sent.
          expect(sent - frames.length).toBeLessThan(20);
        }
        for (const frames of [heard.four, heard.five, heard.late]) expect(frames).toEqual(consecutive(frames));
        // Before: not a packet of the recording, and none that came while it joined.
        expect(heard.late[0]).toBeGreaterThan(before);
        expect(heard.late.at(-1)).toBe(heard.one.at(-1));
        expect(late.member.statistics.unknownKey).toBeGreaterThanOrEqual(replayed);
        expect(heard.four.at(-1)).toBeLessThan(expelled);
        expect(heard.five.length).toBeGreaterThan(100);
        expect(first.happenings.filter(({ event }) => event === "rekey").length).toBeGreaterThan(4);
      });
    });
  });
});
