// An open-loop load: load.js ioredis|iovalkey|node-redis|valkey-glide --seeds host:port,… --rate N
//
// Each client as its documentation shows it, with its own defaults: what users have. The contract is in
// benches/clients/README.md. The modules are found in the directory that $BALLAST_CLIENTS names: scripts/clients.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { load, options } from "./contract.js";

const home = join(process.env.BALLAST_CLIENTS ?? process.cwd(), "node");
const modules = createRequire(join(home, "package.json"));
const version = (name) => JSON.parse(readFileSync(join(home, "node_modules", name, "package.json"))).version;

/** Errors reach whoever asked; an emitter without a listener would end the process instead. */
function deafToEvents(client) {
  client.on("error", () => {});
  return client;
}

const CLIENTS = {
  async ioredis({ seeds }) {
    const { Cluster } = modules("ioredis");
    return [`ioredis ${version("ioredis")}`, deafToEvents(new Cluster(seeds))];
  },
  async iovalkey({ seeds }) {
    const { Cluster } = modules("iovalkey");
    return [`iovalkey ${version("iovalkey")}`, deafToEvents(new Cluster(seeds))];
  },
  async "node-redis"({ seeds }) {
    const { createCluster } = modules("@redis/client");
    const rootNodes = seeds.map(({ host, port }) => ({ url: `redis://${host}:${port}` }));
    const client = deafToEvents(createCluster({ rootNodes }));
    await client.connect();
    return [`node-redis ${version("@redis/client")}`, client];
  },
  async "valkey-glide"({ seeds }) {
    const { GlideClusterClient, Logger } = modules("@valkey/valkey-glide");
    // It would log every redirection, on standard output.
    Logger.setLoggerConfig("off");
    const client = await GlideClusterClient.createClient({ addresses: seeds });
    return [`valkey-glide ${version("@valkey/valkey-glide")} (Node)`, client];
  },
};

const [which, ...words] = process.argv.slice(2);
if (!(which in CLIENTS)) {
  throw new Error(`'${which}' is none of ${Object.keys(CLIENTS).join(", ")}`);
}
const asked = options(words);
const [name, client] = await CLIENTS[which](asked);
await load(name, client, asked);
// The report is out; requests that never end would not let the process go.
process.exit(0);
