/**
 * Records what comes to a multicast group, and at SIGUSR2 plays it to the programs of its own host alone: `tape.js ADDRESS GROUP:PORT`. That is
 * what somebody does who listened before it was a member.
 */
import { createSocket } from "node:dgram";

const [address, name] = process.argv.slice(2);
const [group, port] = name.split(":");
const tape = [];
const socket = createSocket({ type: "udp4", reuseAddr: true });
socket.bind(Number(port), group, () => {
  socket.addMembership(group, address);
  console.log("recording");
});
socket.on("message", (packet) => tape.push(packet));

process.on("SIGUSR2", () => {
  socket.close();
  const player = createSocket("udp4");
  player.bind(0, address, async () => {
    player.setMulticastInterface(address);
    player.setMulticastTTL(0);
    for (const packet of tape) await new Promise((resolve) => player.send(packet, Number(port), group, resolve));
    player.close();
    console.log(`played ${tape.length}`);
  });
});
