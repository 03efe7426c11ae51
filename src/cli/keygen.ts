import { Command } from "commander";
import { formatHex } from "../bytes/index.js";
import { defaultCrypto } from "../crypto/index.js";
import { integerBetween } from "./options.js";

/** `watchword keygen`: makes credentials. */
export function keygenCommand(): Command {
  const command = new Command("keygen").description("make credentials");
  command
    .command("psk")
    .description("make a pre-shared key and print it as ID:HEX, the form that --psk and --psk-file take")
    .option("--id <name>", "who the key belongs to", "default")
    .option("--octets <n>", "length of the key", integerBetween(16, 64), 32)
    .addHelpText(
      "after",
      `
Examples:
  watchword keygen psk --id camera7 >> keys.txt
  watchword serve --psk-file keys.txt`,
    )
    .action((options: { id: string; octets: number }) => {
      process.stdout.write(`${options.id}:${formatHex(defaultCrypto.randomBytes(options.octets))}\n`);
    });
  return command;
}
