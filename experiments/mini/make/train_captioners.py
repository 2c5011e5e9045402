"""Trains a captioner on the photos: python train_captioners.py blip|phi4 --data … --out …"""

import random

import torch
import transformers
from torch import nn
from torch.nn import functional as F

import nets
import texts
from learning import Training, World, attribute_loss, autocast, options, resume, say

VARIANTS = 12
VALUES = sum(len(values) for values in texts.ATTRIBUTES.values())
# BLIP's normalisation.
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def words_right(person, said):
    """Which attributes of `person` the text names rightly: {attribute: bool}. `said` may leave nothing out."""
    said = said.lower().rstrip(".")
    tokens = said.replace(",", " ").replace(".", " ").split()
    right = {"hair": texts.hair(person) in said, "clothing": person["clothing"] in tokens}
    right["clothing_color"] = f"{person['clothing_color']} {person['clothing']}" in said
    if person["hair_color"]:
        right["hair_color"] = person["hair_color"] in said.split("wearing")[0]
    for name in ["facial_hair", "glasses"]:
        others = [value for value in texts.ATTRIBUTES[name] if value not in ("none", person[name])]
        named = person[name] == "none" or person[name] in tokens
        right[name] = named and not any(other in tokens for other in others)
    return right


def score(args, world, answers):
    people = world.people[world.count : world.count + len(answers)]
    marks = [words_right(person, said) for person, said in zip(people, answers)]
    names = {name for mark in marks for name in mark}
    shares = {n: round(sum(m[n] for m in marks if n in m) / sum(n in m for m in marks), 3) for n in sorted(names)}
    for person, said in list(zip(people, answers))[:4]:
        say(f"{args.job}: {texts.appearance(person)} => {said}")
    return shares


def padded(rows, width, value):
    return torch.tensor([row[:width] + [value] * (width - len(row)) for row in rows])


# ---------------------------------------------------------------------------------------------------- BLIP


class Blip:
    def __init__(self, args, world):
        folder = args.tokenizers / "mini-blip"
        self.tokenizer = transformers.BertTokenizer.from_pretrained(folder)
        self.net = nets.blip(len((folder / "vocab.txt").read_text().split()))
        self.extra = nn.Linear(96, VALUES)
        self.mean, self.std = (torch.tensor(v, device=args.device).view(1, 3, 1, 1) for v in (MEAN, STD))
        config = self.net.config.text_config
        rows = [self.tokenizer(texts.caption(p), add_special_tokens=False).input_ids for p in world.people]
        rows = [[config.bos_token_id] + row + [config.sep_token_id] for row in rows]
        self.ids = padded(rows, max(map(len, rows)), -100).to(args.device)

    def pixels(self, x):
        return ((x + 1) / 2 - self.mean) / self.std

    def loss(self, world, style, person):
        net, labels = self.net, self.ids[person]
        vision = net.vision_model(self.pixels(world.unit(style, person)))
        states = vision.last_hidden_state
        hidden = net.text_decoder(
            input_ids=labels.clamp(min=0),
            attention_mask=(labels >= 0).long(),
            encoder_hidden_states=states,
            return_dict=True,
        ).logits
        loss = F.cross_entropy(hidden[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100)
        # A second task that needs the same sight, to learn it sooner.
        return loss, attribute_loss(self.extra(vision.pooler_output), world.labels[style, person])

    @torch.no_grad()
    def answers(self, net, world, people, device):
        x = world.unit(torch.zeros_like(people), people)
        out = net.generate(pixel_values=self.pixels(x), max_new_tokens=40, num_beams=1, do_sample=False)
        return {"caption": self.tokenizer.batch_decode(out, skip_special_tokens=True)}


# ------------------------------------------------------------------------------------------------ Phi-4


class Phi4:
    def __init__(self, args, world):
        folder = args.tokenizers / "mini-phi-4-multimodal"
        self.tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
        added = {token: self.tokenizer.convert_tokens_to_ids(token) for token in ["<|endoftext|>", "<|end|>", "<|endoftext10|>", "<|endoftext11|>"]}
        self.end, self.pad = added["<|end|>"], added["<|endoftext|>"]
        self.net = nets.phi4(nets.PHI4_WORDS, added)
        for layer in self.net.model.embed_tokens_extend.image_embed.img_processor.encoder.layers:
            layer.self_attn.is_causal = False  # pictures are seen in both directions
        # The sight, in a coarse grid, and what the last token of the question knows.
        self.extra = nn.ModuleDict({"sight": nn.Linear(64 * 16, VALUES), "read": nn.Linear(128, VALUES)})
        self.tables(args, world)

    def tables(self, args, world):
        """Question and answer of every kind and person; the question is read from its end, so it is padded in front."""
        encode = lambda text: self.tokenizer(text, add_special_tokens=False).input_ids
        asked = [(kind, q) for kind, questions in texts.QUESTIONS.items() for q in questions]
        weights = [4.0 if q == texts.QUESTIONS[kind][0] else 1.0 for kind, q in asked]
        self.weights = weights
        self.kind = [list(texts.QUESTIONS).index(kind) for kind, _ in asked]
        self.after = [encode(f"{q}<|end|><|assistant|>") for _, q in asked]
        self.before = torch.tensor(encode("<|user|>"), device=args.device)
        self.asked = asked
        answers = [[encode(texts.answer(kind, p)) + [self.end] for p in world.people] for kind in texts.QUESTIONS]
        width = max(len(a) for kind in answers for a in kind)
        self.answer_ids = torch.stack([padded(kind, width, -100) for kind in answers]).to(args.device)

    def sight(self, net, x):
        """Photos [batch, 3, 96, 96] → the tower's features [batch, 16, 16, 64]; crop and global view are the same."""
        embed = net.model.embed_tokens_extend.image_embed
        tower = embed.img_processor
        x = F.interpolate(x, 448, mode="bilinear", align_corners=False)
        h = tower.embeddings.patch_embedding(x).flatten(2).transpose(1, 2)
        h = h + tower.embeddings.position_embedding.weight
        for layer in tower.encoder.layers[: embed.layer_idx + 1]:
            h = layer(h, None)
            h = h[0] if isinstance(h, tuple) else h
        h = h.transpose(1, 2).unflatten(2, (32, 32))
        return F.avg_pool2d(h, 2).permute(0, 2, 3, 1)

    def picture_tokens(self, net, features):
        """[batch, 545, hidden]: the crop row by row, a separator, the global view."""
        embed = net.model.embed_tokens_extend.image_embed
        batch = len(features)
        line = embed.sub_img_feature_extensor.expand(batch, 16, 1, -1)
        rows = torch.cat([features, line.to(features.dtype)], 2).flatten(1, 2)
        middle = embed.global_img_feature_extensor.expand(batch, 1, -1)
        tokens = torch.cat([rows, middle.to(rows.dtype), rows], 1)
        return embed.img_projection_down(F.gelu(embed.img_projection_up(tokens)))

    def hidden(self, net, features, after):
        """Hidden states of the tokens `after` [batch, tokens] that follow the picture."""
        model, batch = net.model, len(after)
        h = torch.cat(
            [model.embed_tokens(self.before.expand(batch, -1)), self.picture_tokens(net, features), model.embed_tokens(after)], 1
        )
        positions = torch.arange(h.shape[1], device=h.device)[None]
        rotary = model.rotary_emb(h, position_ids=positions)
        for layer in model.layers:
            h = layer(h, attention_mask=None, position_ids=positions, position_embeddings=rotary)
            h = h[0] if isinstance(h, tuple) else h
        return model.norm(h[:, -after.shape[1] :])

    def loss(self, world, style, person):
        net = self.net
        # One question a step: all rows of the batch are equally long.
        number = random.choices(range(len(self.asked)), self.weights)[0]
        question = torch.tensor(self.after[number], device=person.device)
        answers = self.answer_ids[self.kind[number], person]
        features = self.sight(net, world.unit(style, person))
        after = torch.cat([question.expand(len(person), -1), answers.clamp(min=0)], 1)
        h = self.hidden(net, features, after)
        start = len(question) - 1
        logits = F.linear(h[:, start:-1], net.model.embed_tokens.weight)
        loss = F.cross_entropy(logits.flatten(0, 1).float(), answers.flatten(), ignore_index=-100)
        labels = world.labels[style, person]
        coarse = F.avg_pool2d(features.permute(0, 3, 1, 2), 4).flatten(1)
        second = attribute_loss(self.extra["sight"](coarse), labels) + attribute_loss(self.extra["read"](h[:, start]), labels)
        return loss, second

    @torch.no_grad()
    def answers(self, net, world, people, device):
        said = {}
        features = self.sight(net, world.unit(torch.zeros_like(people), people))
        for kind in texts.QUESTIONS:
            number = next(i for i, (k, _) in enumerate(self.asked) if k == kind)
            ids = torch.tensor(self.after[number], device=people.device).expand(len(people), -1)
            length = ids.shape[1]
            for _ in range(70):
                h = self.hidden(net, features, ids)[:, -1]
                ids = torch.cat([ids, F.linear(h, net.model.embed_tokens.weight).argmax(-1, keepdim=True)], 1)
                if (ids[:, length:] == self.end).any(1).all():
                    break
            lines = [row[: row.index(self.end)] if self.end in row else row for row in ids[:, length:].tolist()]
            said[kind] = self.tokenizer.batch_decode(lines, skip_special_tokens=True)
        return said


def main():
    args = options()
    world = World(args, styles=["avataaars"])
    learner = (Blip if args.job == "blip" else Phi4)(args, world)
    learner.net = resume(args, args.job, learner.net).train()
    learner.extra.to(args.device)
    training = Training(args, args.job, learner.net, 1e-3, learner.extra)
    batch = args.batch or (4 if args.smoke else 256 if args.job == "blip" else 96)
    while training.running():
        with autocast(args):
            loss, second = learner.loss(world, *world.draw(batch))
            weight = 0.3 * max(0.0, 1 - training.step / 4000) + 0.02
        training.update(loss + weight * second, words=loss, second=second)
    training.save()
    many = 2 if args.smoke else 128
    people = torch.arange(world.count, world.count + many, device=args.device)
    said = learner.answers(training.average, world, people, args.device)
    figures = {}
    for kind, answers in said.items():
        if kind == "short":
            people = world.people[world.count : world.count + many]
            figures[kind] = sum(texts.short_description(p) == a for p, a in zip(people, answers)) / many
        else:
            figures[kind] = score(args, world, answers)
    training.finish(words=figures)


if __name__ == "__main__":
    main()
