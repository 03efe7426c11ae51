import { setTimeout as delay } from "node:timers/promises";
import { expect, it } from "vitest";
import { createNetwork, describeNamespaces } from "../namespaces.js";
import { describePeer } from "../peers.js";
import {
  administer,
  crashKeyServer,
  ffmpeg,
  gstreamer,
  joinGroup,
  settled,
  speak,
  startKeyServer,
  startTape,
  tap,
} from "./parties.js";

const REKEY = {
  period: 5,
  heartbeat: 1,
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
        timeout: 85_000,
      }, async (test) => {
        const names = ["gcks", "speaker", "one", "two", "three", "four", "five", "late"] as const;
        const network = createNetwork(test, { near: names });
        const place = (name: (typeof names)[number]) => network.place(name);
        const server = await startKeyServer(test, place("gcks"), REKEY);
        const one = await tap(test, place("one"));
        const [two, three, four, five] = [
          ffmpeg(test, place("two")),
          gstreamer(test, place("three")),
          ffmpeg(test, place("four")),
          gstreamer(test, place("five")),
        ];
        const tape = await startTape(test, place("late"));
        const joining = (["speaker", "one", "two", "three", "four", "five"] as const).map((name, index) =>
          joinGroup(test, server, place(name), name, index % 2 === 0 ? "sip" : "rtsp"),
        );
        const [speaker, first, second, third, fourth, fifth] = await Promise.all(joining);
        if (!speaker || !first || !second || !third || !fourth || !fifth) throw new Error("somebody is missing");
        await settled([speaker, first, second, third, fourth, fifth]);
        // Who joined last has no key of before.
        await delay(1000 * REKEY.activationDelay);
        const voice = speak(test, place("speaker"), 80);
        await one.more(40);

        // Somebody who recorded everything joins: nothing from before is opened.
        const latecomer = ffmpeg(test, place("late"));
        const before = one.heard.last;
        const late = await joinGroup(test, server, place("late"), "late", "sip");
        await settled([speaker, first, late]);
        const replayed = await tape.play();
        expect(replayed).toBeGreaterThan(30);
        await one.more(25);

        // Somebody leaves, and proves it.
        const gone = await fifth.leave();
        expect(gone.code, gone.stderr).toBe(0);
        expect(fifth.happenings.at(-1)).toMatchObject({ event: "left", proof: "verified" });

        // Somebody is thrown out. Its process stays, and its socket hears on.
        await one.more(25);
        expect(await administer(test, server, "expel", "blue", "sip:four@example.org")).toEqual({ expelled: 1 });
        await settled([speaker, first, second, third, late]);
        await one.more(15);
        const expelled = one.heard.last;
        await one.more(50);

        // The key server dies, and starts again; who is there goes on.
        await crashKeyServer(test, server, 1000);
        const stayed = [speaker, first, second, third, late];
        await settled(stayed);
        const sequence = Math.max(...stayed.map((member) => member.sequence));
        await administer(test, server, "rekey", "blue");
        await settled(stayed, sequence + 1);
        await one.more(50);
        voice.stop("SIGINT");
        await voice.ended;
        await delay(500);
        await fourth.leave();
        await administer(test, server, "end", "blue");
        for (const member of stayed) expect((await member.process.ended).code, member.process.stderr).toBe(0);

        const heard = {
          one: await one.stop(),
          two: await two.stop(),
          three: await three.stop(),
          four: await four.stop(),
          five: await five.stop(),
          late: await latecomer.stop(),
        };
        const sent = speaker.statistics.sent;
        expect(speaker.statistics).toMatchObject({ unsent: 0 });
        for (const [member, frames] of [
          [first, heard.one],
          [second, heard.two],
          [third, heard.three],
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
        expect(late.statistics.unknownKey).toBeGreaterThanOrEqual(replayed);
        expect(heard.four.at(-1)).toBeLessThan(expelled);
        expect(fourth.statistics.unknownKey).toBeGreaterThan(50);
        expect(heard.five.length).toBeGreaterThan(100);
        expect(first.happenings.filter(({ event }) => event === "rekey").length).toBeGreaterThan(4);
      });
    });
  });
});
