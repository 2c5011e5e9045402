// Draws the little world of experiments/mini: people of known attributes, each in five styles, and in one more that only
// adapters learn. `world.json` says which attributes there are, and which options of a style show them.
//
//   npm install --no-package-lock
//   node pictures.js                            the held-out people: photos/ and styles/
//   node pictures.js --train 5000 --out DIR     the people to learn from: DIR/STYLE.rgb, DIR/people.json
//
// The same seed always gives the same people and pictures; the two calls share no person.

import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import * as collection from "@dicebear/collection";
import { createAvatar } from "@dicebear/core";
import { Resvg } from "@resvg/resvg-js";

const here = dirname(fileURLToPath(import.meta.url));
const { values: args } = parseArgs({
  options: {
    out: { type: "string", default: resolve(here, "..") },
    photos: { type: "string", default: "32" },
    styles: { type: "string", default: "64" },
    train: { type: "string", default: "0" },
    only: { type: "string", default: "" },
    size: { type: "string", default: "96" },
    seed: { type: "string", default: "20240" },
  },
});
const size = Number(args.size);
const world = JSON.parse(readFileSync(join(here, "world.json"), "utf8"));
// Those of `new_styles` come last: they change nothing of what is drawn in the others.
const styles = Object.entries({ ...world.styles, ...world.new_styles });

/** A small seeded generator (mulberry32): uniform numbers in [0, 1). */
function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** A key of `table`, as often as its weight says. */
function draw(next, table) {
  let left = next() * Object.values(table).reduce((sum, weight) => sum + weight, 0);
  for (const [key, weight] of Object.entries(table)) {
    left -= weight;
    if (left < 0) return key;
  }
}

/** A person: a value of every attribute (null: not to be seen), and the seed of all else. */
function person(next) {
  const attributes = {};
  for (const [name, table] of Object.entries(world.attributes)) attributes[name] = draw(next, table);
  if (["bald", "hat"].includes(attributes.hair)) attributes.hair_color = null;
  // Numbered seeds would give near-equal neighbours: dicebear mixes its seed weakly.
  return { seed: String(next()), background: next(), attributes };
}

/** What of `attributes` a picture in this style shows; null where the style does not know it. */
function shown(style, attributes) {
  const known = (name, value) => name in style.colors || value in (style.options[name] ?? {});
  return Object.fromEntries(
    Object.entries(attributes).map(([name, value]) => [name, known(name, value) ? value : null]),
  );
}

/** The options that draw `attributes` in this style. */
function options(style, attributes) {
  const all = { ...style.always };
  for (const [name, table] of Object.entries(style.options)) {
    Object.assign(all, table[attributes[name]] ?? table.else);
  }
  if (style.collection === "avataaars" && all.topProbability === undefined) all.topProbability = 100;
  for (const [name, keys] of Object.entries(style.colors)) {
    // A beard has a colour where there is no hair to be seen, too.
    const color = world.colors[name][attributes[name] ?? "brown"];
    for (const key of keys) all[key] = [color];
  }
  return all;
}

/** The picture of a person, opaque, size × size. */
function picture(style, { seed, background, attributes }) {
  const color = style.background[Math.floor(background * style.background.length)];
  const svg = createAvatar(collection[style.collection], { seed, size, ...options(style, attributes) }).toString();
  return new Resvg(svg, { background: `#${color}`, fitTo: { mode: "width", value: size } }).render();
}

/** A list of objects as JSON, one a line. */
const lines = (list) => `[\n${list.map((entry) => JSON.stringify(entry)).join(",\n")}\n]\n`;

/** `count` PNG pictures of new people, and what each shows. */
function folder(path, prefix, style, count, next) {
  rmSync(path, { recursive: true, force: true });
  mkdirSync(path, { recursive: true });
  const list = [];
  for (let i = 1; i <= count; i++) {
    const id = `${prefix}-${String(i).padStart(3, "0")}`;
    const who = person(next);
    writeFileSync(join(path, `${id}.png`), picture(style, who).asPng());
    list.push({ id, file: `${id}.png`, attributes: shown(style, who.attributes) });
  }
  writeFileSync(join(path, "attributes.json"), lines(list));
}

function heldOut() {
  const seed = Number(args.seed);
  for (const [number, [name, style]] of styles.entries()) {
    const photo = name === "avataaars";
    const path = photo ? join(args.out, "photos") : join(args.out, "styles", name);
    folder(path, photo ? "face" : name, style, Number(photo ? args.photos : args.styles), random(seed + number));
  }
}

/** Raw RGB of every person in every style, one file a style; `people.json` lists the attributes. */
function train(count) {
  const next = random(Number(args.seed) + 1000);
  const people = Array.from({ length: count }, () => person(next));
  mkdirSync(args.out, { recursive: true });
  for (const [name, style] of styles) {
    if (args.only && !args.only.split(",").includes(name)) continue;
    const file = openSync(join(args.out, `${name}.rgb`), "w");
    for (const who of people) {
      const rgba = picture(style, who).pixels;
      const rgb = Buffer.alloc(size * size * 3);
      for (let i = 0; i < size * size; i++) rgba.copy(rgb, 3 * i, 4 * i, 4 * i + 3);
      writeSync(file, rgb);
    }
    closeSync(file);
  }
  const list = people.map(({ attributes }) => ({
    attributes,
    shown: Object.fromEntries(styles.map(([name, style]) => [name, shown(style, attributes)])),
  }));
  writeFileSync(join(args.out, "people.json"), JSON.stringify({ size, people: list }));
}

if (Number(args.train) > 0) train(Number(args.train));
else heldOut();
