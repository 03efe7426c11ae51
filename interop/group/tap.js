/** Takes plain RTP at a port of loopback: `tap.js PORT`. Says now and then what came last; its last line, at SIGTERM, is everything. */
import { createSocket } from "node:dgram";

const [port] = process.argv.slice(2);
const HEADER = 12;
const packets = [];
const socket = createSocket("udp4");
socket.on("message", (packet) => {
  const [high, middle, low] = packet.subarray(HEADER);
  packets.push({ sequence: packet.readUInt16BE(2), frame: (high << 12) | (middle << 6) | low });
});
socket.bind(Number(port), "127.0.0.1", () => console.log("listening"));
let told = 0;
setInterval(() => {
  if (packets.length > told) console.log(`heard ${packets.length} last ${packets.at(-1).frame}`);
  told = packets.length;
}, 100);
process.on("SIGTERM", () => {
  console.log(JSON.stringify(packets));
  process.exit();
});
