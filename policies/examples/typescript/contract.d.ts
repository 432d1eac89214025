// The contract (wit/policy.wit, world slot-policy) as TypeScript sees it.

declare module 'ballast:policy/types@0.1.0' {
  export interface Node { id: string; address: string; zone: string; tags: string[] }
  export interface Move { slot: number; target: number; reason: string }
  export interface Proposal { moves: Move[]; summary: string; gauges: [string, number][] }
  export interface Metric { name: string; unit: string; help: string; source: 'measured' | 'estimated'; confidence: number }
  export interface Description { name: string; version: string; summary: string; needs: string[]; parametersSchema: string }
  /** What `plan` throws. */
  export interface Failure { tag: 'bad-parameters' | 'not-ready' | 'internal'; val: string }
  /** What the policy exports as `policy`. */
  export interface Policy {
    describe(): Description;
    /** Throws text for people. */
    configure(parameters: string): void;
    plan(): Proposal;
  }
}

declare module 'ballast:policy/cluster@0.1.0' {
  import type { Metric, Move, Node } from 'ballast:policy/types@0.1.0';
  const cluster: {
    takenAtMs(): number;
    windowS(): number;
    generation(): number;
    nodes(): Node[];
    owners(): number[];
    slotMetric(name: string): number[] | null;
    nodeMetric(name: string): number[] | null;
    metrics(): Metric[];
    inFlight(): Move[];
  };
  export default cluster;
}

declare module 'ballast:policy/search@0.1.0' {
  import type { Move } from 'ballast:policy/types@0.1.0';
  const search: {
    /** Throws text for people. */
    solve(goals: string): { moves: Move[]; report: string };
  };
  export default search;
}

declare module 'ballast:policy/log@0.1.0' {
  const log: { log(level: 'debug' | 'info' | 'warn' | 'error', message: string): void };
  export default log;
}
