// Draws the pictures of experiments/mini: the "photos" (style avataaars, every attribute chosen here
// and written beside the picture) and the style sets. The same seed always gives the same pictures.
//
//   npm install --no-package-lock
//   node pictures.js [--out DIR] [--photos N] [--styles N] [--size PIXELS] [--seed S]

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
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
    styles: { type: "string", default: "48" },
    size: { type: "string", default: "128" },
    seed: { type: "string", default: "20240" },
  },
});
const size = Number(args.size);

const vocabulary = JSON.parse(readFileSync(join(here, "attributes.json"), "utf8"));
const STYLES = { lorelei: "lorelei", "open-peeps": "openPeeps", "pixel-art": "pixelArt", notionists: "notionists" };

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

const pick = (next, list) => list[Math.floor(next() * list.length)];
const draw = (next, table) => {
  const key = pick(next, Object.keys(table));
  return [key, table[key]];
};

/** The picture as an opaque PNG of size × size pixels. */
function png(style, options, background) {
  const svg = createAvatar(style, { size, ...options }).toString();
  return new Resvg(svg, { background, fitTo: { mode: "width", value: size } }).render().asPng();
}

/** One photo: the options that draw it and, in words, what is to be seen. */
function photo(next) {
  const v = vocabulary;
  const covered = next() < 0.15;
  const [top, hair] = covered ? draw(next, v.headwear) : draw(next, v.hair);
  const [hairColor, hairName] = draw(next, v.hair_color);
  const [hatColor, hatName] = draw(next, v.cloth_color);
  const [skinColor, skin] = draw(next, v.skin);
  const bearded = next() < 0.3;
  const [beard, beardName] = draw(next, v.facial_hair);
  const glassed = next() < 0.4;
  const [accessory, glasses] = draw(next, v.glasses);
  const [accessoryColor] = draw(next, v.glasses_color);
  const [clothing, clothes] = draw(next, v.clothing);
  const [clothesColor, clothesName] = draw(next, v.cloth_color);
  const [mouth, expression] = draw(next, v.expression);
  const [eyes] = draw(next, v.eyes);
  const [background, backgroundName] = draw(next, v.background);
  const bald = top === "bald";
  const options = {
    top: bald ? [] : [top],
    topProbability: bald ? 0 : 100,
    hairColor: [hairColor],
    hatColor: [hatColor],
    skinColor: [skinColor],
    facialHair: [beard],
    facialHairProbability: bearded ? 100 : 0,
    facialHairColor: [hairColor],
    accessories: [accessory],
    accessoriesProbability: glassed ? 100 : 0,
    accessoriesColor: [accessoryColor],
    clothing: [clothing],
    clothesColor: [clothesColor],
    mouth: [mouth],
    eyes: [eyes],
    eyebrows: ["defaultNatural"],
  };
  const attributes = {
    skin,
    hair: covered ? `a ${hatName} ${hair}` : hair.replace("{}", hairName),
    facial_hair: bearded ? `${hairName} ${beardName}` : "none",
    glasses: glassed ? glasses : "none",
    clothing: clothes.replace("{}", clothesName),
    expression,
    background: backgroundName,
  };
  return { options, attributes, background: `#${background}` };
}

/** What a careful describer would say. */
function describe({ skin, hair, facial_hair, glasses, clothing, expression }) {
  const extra = [facial_hair, glasses].filter((what) => what !== "none").map((what) => `, ${what}`);
  return `a person with ${skin} skin, ${hair}${extra.join("")}, ${expression}, wearing ${clothing}`.replace(
    /wearing (.)/,
    (_, first) => `wearing ${"aeiou".includes(first) ? "an" : "a"} ${first}`,
  );
}

function photos() {
  const next = random(Number(args.seed));
  const folder = join(args.out, "photos");
  mkdirSync(folder, { recursive: true });
  const list = [];
  for (let i = 1; i <= Number(args.photos); i++) {
    const id = `face-${String(i).padStart(3, "0")}`;
    const { options, attributes, background } = photo(next);
    writeFileSync(join(folder, `${id}.png`), png(collection.avataaars, options, background));
    list.push({ id, file: `${id}.png`, description: describe(attributes), attributes, options, background });
  }
  const lines = list.map((entry) => JSON.stringify(entry)).join(",\n");
  writeFileSync(join(folder, "attributes.json"), `[\n${lines}\n]\n`);
}

function styles() {
  for (const [folderName, styleName] of Object.entries(STYLES)) {
    const folder = join(args.out, "styles", folderName);
    mkdirSync(folder, { recursive: true });
    // Numbered seeds would give near-equal neighbours: dicebear mixes its seed weakly.
    const next = random(Number(args.seed) + 1);
    for (let i = 1; i <= Number(args.styles); i++) {
      const seed = `${folderName}-${next()}`;
      const id = `${folderName}-${String(i).padStart(3, "0")}`;
      writeFileSync(join(folder, `${id}.png`), png(collection[styleName], { seed }, "#ffffff"));
    }
  }
}

photos();
styles();
