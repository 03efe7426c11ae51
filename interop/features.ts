/** Which peers did what in a run of the suites: read from the titles of the tests that passed (the convention: interop/README.md). */
import { isSuiteName } from "../src/srtp/index.js";

/** What vitest's JSON report says of a test. */
export interface ReportedTest {
  readonly ancestorTitles: readonly string[];
  readonly title: string;
  readonly status: string;
}

export interface Report {
  readonly testResults: readonly { readonly name: string; readonly assertionResults: readonly ReportedTest[] }[];
}

/** What interop/features.json holds. */
export interface Features {
  /** Version by name, as the run met it. */
  readonly peers: Readonly<Record<string, string>>;
  /** In the order of the table: who does it. */
  readonly features: Readonly<Record<string, readonly string[]>>;
}

/** What the title of a suite says that a machine cannot run for want of a right, whatever is installed. */
export const WITHOUT_NAMESPACES = "(network namespaces need iproute2 and root)";

/** Whether a test was left out for want of a right. */
export function lacksRight({ ancestorTitles, status }: ReportedTest): boolean {
  return status !== "passed" && status !== "failed" && ancestorTitles.some((title) => title.endsWith(WITHOUT_NAMESPACES));
}

const SUITE_TITLE = /^interop (\S+)(?: (\S+))?: /;

/** The features that a title names: its tags in square brackets at the end. The name of an SRTP suite stands for SRTP with it. */
function featuresOf(title: string): string[] {
  const tags = / \[([^[\]]+)\]$/.exec(title)?.[1]?.split(",") ?? [];
  return tags.map((tag) => tag.replaceAll("'", "").trim()).map((tag) => (isSuiteName(tag) ? `SRTP ${tag}` : tag));
}

/** For each peer of a test what it names: a feature belongs to the nearest suite of a peer that encloses it. */
function claimsOf({ ancestorTitles, title }: ReportedTest): { peer: string; version: string; features: string[] }[] {
  const claims: { peer: string; version: string; features: string[] }[] = [];
  for (const text of [...ancestorTitles, title]) {
    const suite = SUITE_TITLE.exec(text);
    if (suite !== null) claims.push({ peer: suite[1] as string, version: suite[2] ?? "", features: [] });
    claims.at(-1)?.features.push(...featuresOf(text));
  }
  return claims;
}

/**
 * What a run showed. A peer has a feature when tests that name it passed and none failed; a test that was skipped shows nothing, and one that this
 * machine has no right to run leaves what is known.
 * @param known what an earlier run showed; gives the order of what it has too, the rest follows by name
 */
export function readFeatures(report: Report, known: Features = { peers: {}, features: {} }): Features {
  const peers = new Map<string, string>();
  const shown = new Map<string, Map<string, boolean>>();
  for (const { assertionResults } of report.testResults) {
    for (const test of assertionResults) {
      const isKnown = lacksRight(test);
      if (test.status !== "passed" && test.status !== "failed" && !isKnown) continue;
      for (const { peer, version, features } of claimsOf(test)) {
        if (version !== "") peers.set(peer, version);
        for (const feature of features) {
          if (isKnown && known.features[feature]?.includes(peer) !== true) continue;
          const byPeer = shown.get(feature) ?? new Map<string, boolean>();
          shown.set(feature, byPeer.set(peer, (byPeer.get(peer) ?? true) && test.status !== "failed"));
        }
      }
    }
  }
  const names = inOrder([...peers.keys()], Object.keys(known.peers));
  const features = inOrder([...shown.keys()], Object.keys(known.features)).map((feature) => {
    const byPeer = shown.get(feature);
    return [feature, names.filter((peer) => byPeer?.get(peer) === true)] as const;
  });
  return {
    peers: Object.fromEntries(names.map((peer) => [peer, peers.get(peer) as string])),
    features: Object.fromEntries(features.filter(([, by]) => by.length > 0)),
  };
}

function inOrder(names: readonly string[], known: readonly string[]): string[] {
  return [...known.filter((name) => names.includes(name)), ...names.filter((name) => !known.includes(name)).sort()];
}

/** What one has and the other has not, one line each; versions do not count. */
export function differences(claimed: Features, shown: Features): string[] {
  const pairs = ({ features }: Features): string[] =>
    Object.entries(features).flatMap(([name, by]) => by.map((peer) => `${peer}: ${name}`));
  const [was, is] = [pairs(claimed), pairs(shown)];
  return [
    ...was.filter((pair) => !is.includes(pair)).map((pair) => `claimed and not shown: ${pair}`),
    ...is.filter((pair) => !was.includes(pair)).map((pair) => `shown and not claimed: ${pair}`),
  ];
}

/** The table in Markdown: a row per feature, a column per peer. */
export function formatTable({ peers, features }: Features): string {
  const names = Object.keys(peers);
  const row = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [
    row(["", ...names.map((name) => `${name} ${peers[name]}`)]),
    `|---${"|:-:".repeat(names.length)}|`,
    ...Object.entries(features).map(([feature, by]) => row([feature, ...names.map((name) => (by.includes(name) ? "yes" : ""))])),
  ].join("\n");
}

const BEGIN = "<!-- peers: generated by npm run peers:table -->";
const END = "<!-- /peers -->";

/** The text with the table between its marks. @throws Error where the marks are missing */
export function placeTable(markdown: string, features: Features): string {
  const [begin, end] = [markdown.indexOf(BEGIN), markdown.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`the marks are missing: ${BEGIN} … ${END}`);
  return `${markdown.slice(0, begin + BEGIN.length)}\n${formatTable(features)}\n${markdown.slice(end)}`;
}
