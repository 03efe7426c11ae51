/** Somebody between a member and its key server. */
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export interface Between {
  readonly port: number;
  /** Everything that went to the key server, and came from it. */
  readonly said: { up: string; down: string };
  /** Says something to the member in place of the key server. */
  inject(text: string): void;
  close(): Promise<void>;
}

/** Hands on what comes over TCP, both ways. */
export async function openBetween(port: number): Promise<Between> {
  const said = { up: "", down: "" };
  const sockets = new Set<Socket>();
  let member: Socket | undefined;
  const server = createServer((near) => {
    const far = connect(port, "127.0.0.1");
    member = near;
    for (const [from, to, way] of [
      [near, far, "up"],
      [far, near, "down"],
    ] as const) {
      sockets.add(from);
      from.on("data", (octets) => {
        said[way] += octets.toString("latin1");
      });
      from.on("error", () => to.destroy());
      from.pipe(to);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    said,
    inject: (text) => member?.write(text),
    close: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy();
        server.close(() => resolve());
      }),
  };
}
