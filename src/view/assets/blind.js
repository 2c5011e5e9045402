// Blind votes: two pictures of one photo, no names. While it is open the grid, which has the names, is not in the page.
const Blind = (() => {
  const place = document.querySelector("[data-blind]");
  const home = document.querySelector("[data-grid-home]");
  const views = [...document.querySelectorAll("[data-view]")];
  const buttons = [...place.querySelectorAll("[data-vote]")];
  const all = place.querySelector("[data-all]");
  const sides = ["left", "photo", "right"].map((side) => place.querySelector(`[data-side=${side}]`));
  let pair = null;

  // The address of a picture names its strategy; a blob's does not.
  async function load(image, href) {
    const old = image.src;
    if (!href) {
      image.removeAttribute("src");
    } else {
      const response = await fetch(href);
      if (!response.ok) throw new Error(`a picture cannot be read (status ${response.status})`);
      image.src = URL.createObjectURL(await response.blob());
      await image.decode().catch(() => {});
    }
    if (old.startsWith("blob:")) URL.revokeObjectURL(old);
  }

  function wait(on) {
    buttons.forEach((button) => { button.disabled = on; });
  }

  async function show(next) {
    pair = null;
    wait(true);
    place.querySelector("[data-finished]").hidden = Boolean(next);
    place.querySelector("[data-trio]").hidden = !next;
    if (!next) return;
    await Promise.all([[0, next.left_picture], [1, next.photo], [2, next.right_picture]].map(([at, href]) => load(sides[at], href)));
    pair = next;
    wait(false);
  }

  async function next() {
    wait(true);
    try {
      const answer = await People.get("api/pair", all.checked ? { pairs: "all" } : {});
      place.querySelector("[data-progress]").textContent = `${answer.voted} of ${answer.pairs} pairs done`;
      await show(answer.pair);
    } catch (error) {
      People.say(error.message, true);
    }
  }

  async function vote(choice) {
    if (!pair) return;
    const { id, left, right } = pair;
    const voted = pair;
    pair = null;
    wait(true);
    try {
      await People.post("api/votes", { id, left, right, choice });
      People.say("Saved.");
      await next();
    } catch {
      // It is said; the same pair can be voted on again.
      pair = voted;
      wait(false);
    }
  }

  async function undo() {
    try {
      const answer = await People.post("api/undo", { table: "votes" });
      People.say(answer.undone ? "Your last vote is taken back." : "There is nothing to undo.");
      if (answer.pair) await show(answer.pair);
    } catch {
      // It is said.
    }
  }

  function is_open() {
    return !place.hidden;
  }

  function change(name) {
    const blind = name === "blind";
    if (blind === is_open()) return;
    views.forEach((button) => button.setAttribute("aria-pressed", button.dataset.view === name));
    for (const part of ["[data-head]", "[data-rating-help]"]) document.querySelector(part).hidden = blind;
    document.querySelector("[data-reasons]").hidden = true;
    if (Lightbox.dialog.open) Lightbox.dialog.close();
    People.say("");
    place.hidden = !blind;
    if (blind) {
      Grid.section.remove();
      next();
    } else {
      home.append(Grid.section);
    }
  }

  views.forEach((button) => button.addEventListener("click", () => change(button.dataset.view)));
  buttons.forEach((button) => button.addEventListener("click", () => vote(button.dataset.vote)));
  all.addEventListener("change", next);
  document.querySelector("[data-undo]").addEventListener("click", () => (is_open() ? undo() : Rate.undo()));
  People.onChange(() => {
    if (is_open()) next();
  });

  const keys = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie" };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
    if (event.target.matches("input, select, textarea")) return;
    if (!is_open()) {
      Rate.key(event);
    } else if (keys[event.key]) {
      vote(keys[event.key]);
      event.preventDefault();
    } else if (event.key === "u") {
      undo();
    }
  });

  return { change };
})();
