/**
 * Carries multicast from one segment to another and loses some of it: `relay.js IN OUT LOSS SEED GROUP:PORT…`, IN and OUT are our own addresses
 * there. SIGUSR2 cuts the way, and joins it again. Its last line says, at SIGTERM, what it handed on of each group, the sequence numbers of
 * RTP (which SRTP leaves in the clear) included.
 */
import { createSocket } from "node:dgram";

const [from, to, loss, seed, ...groups] = process.argv.slice(2);
let state = Number(seed) >>> 0;
let cut = false;
const report = {};

/** Mulberry32: the same losses for the same seed and packets. */
function random() {
  state = (state + 0x6d2b79f5) >>> 0;
  let mixed = Math.imul(state ^ (state >>> 15), state | 1);
  mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
}

for (const name of groups) {
  const [group, port] = name.split(":");
  const counts = { seen: 0, lost: 0, handed: 0, sequences: [] };
  report[name] = counts;
  const inward = createSocket({ type: "udp4", reuseAddr: true });
  const outward = createSocket("udp4");
  outward.bind(0, to, () => {
    outward.setMulticastInterface(to);
    outward.setMulticastLoopback(false);
    inward.bind(Number(port), group, () => {
      inward.addMembership(group, from);
      console.log(`relaying ${name}`);
    });
  });
  inward.on("message", (packet) => {
    counts.seen++;
    if (cut || random() < Number(loss)) {
      counts.lost++;
      return;
    }
    counts.handed++;
    counts.sequences.push(packet.readUInt16BE(2));
    outward.send(packet, Number(port), group);
  });
}

process.on("SIGUSR2", () => {
  cut = !cut;
  console.log(cut ? "cut" : "joined");
});
process.on("SIGTERM", () => {
  console.log(JSON.stringify(report));
  process.exit();
});
