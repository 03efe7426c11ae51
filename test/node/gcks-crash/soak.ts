/** `npm run soak:groups -- [--rounds N] [--members N] [--at-once N] [--operations N]`: kills a key server under load, again and again; exits with 1 where something that it had acknowledged is lost. */
import { parseArgs } from "node:util";
import { crashRounds } from "./rounds.js";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "50" },
    members: { type: "string", default: "24" },
    "at-once": { type: "string", default: "8" },
    operations: { type: "string", default: "200" },
  },
});
const result = await crashRounds({
  rounds: Number(values.rounds),
  members: Number(values.members),
  atOnce: Number(values["at-once"]),
  operations: Number(values.operations),
  restores: true,
  say: (line) => console.log(line),
});
console.log(JSON.stringify(result, undefined, 2));
if (result.failures.length > 0) process.exitCode = 1;
