// Ratings: success or failure, with a reason; one key each.
const Rate = (() => {
  const bar = document.querySelector("[data-reasons]");
  const reasons = [...bar.querySelectorAll("[data-reason]")];
  const large = [...Lightbox.dialog.querySelectorAll("[data-lightbox-rate]")];
  const why = Lightbox.dialog.querySelector("[data-lightbox-why]");
  let failed = null; // the cell whose reason is asked for

  function cell_of(photo, strategy) {
    const { data, cells } = Grid;
    const r = data.photos.findIndex((entry) => entry.id === photo);
    const c = data.strategies.indexOf(strategy);
    return r < 0 || c < 0 ? null : cells[r][c];
  }

  function mark(cell, rating, reason) {
    const box = cell?.querySelector(".rate");
    if (!box) return;
    for (const button of box.querySelectorAll("[data-rate]")) {
      button.setAttribute("aria-pressed", button.dataset.rate === rating);
    }
    let why = box.querySelector(".why");
    if (!why) {
      why = document.createElement("span");
      why.className = "why";
      box.append(why);
    }
    why.textContent = reason || "";
    why.title = reason || "";
    cell.dataset.rating = rating || "";
    cell.dataset.reason = reason || "";
    if (cell === Lightbox.cell()) show_large(cell);
  }

  // What was said of the picture that is shown large.
  function show_large(cell) {
    for (const button of large) {
      button.hidden = !cell.querySelector(".rate");
      button.setAttribute("aria-pressed", button.dataset.lightboxRate === cell.dataset.rating);
    }
    why.textContent = cell.dataset.reason || "";
  }

  function ask_why(cell) {
    failed = cell;
    bar.hidden = !cell;
    if (!cell) return;
    bar.querySelector("[data-reasons-of]").textContent = `${cell.dataset.photo}, ${cell.dataset.strategy}`;
    for (const button of reasons) {
      button.setAttribute("aria-pressed", button.dataset.reason === cell.dataset.reason);
    }
  }

  async function rate(cell, rating, reason = "") {
    if (!cell?.querySelector(".rate")) return;
    const { photo: id, strategy } = cell.dataset;
    try {
      const row = await People.post("api/ratings", { id, strategy, rating, reason });
      mark(cell, row.rating, row.reason);
      ask_why(row.rating === "failure" ? cell : null);
      People.say(`Saved: ${id}, ${strategy}: ${row.rating}${row.reason ? `, ${row.reason}` : ""}`);
    } catch {
      // It is said, and the cell keeps what is on disk.
    }
  }

  async function undo() {
    try {
      const { undone, now } = await People.post("api/undo", { table: "ratings" });
      if (!undone) {
        People.say("There is nothing to undo.");
        return;
      }
      mark(cell_of(undone.id, undone.strategy), now?.rating, now?.reason);
      ask_why(null);
      People.say(`Taken back: ${undone.id}, ${undone.strategy}: ${undone.rating}`);
    } catch {
      // It is said.
    }
  }

  async function load() {
    Grid.cells.flat().filter((cell) => cell.dataset.rating).forEach((cell) => mark(cell, "", ""));
    ask_why(null);
    const { ratings } = await People.get("api/answers");
    for (const row of ratings) mark(cell_of(row.id, row.strategy), row.rating, row.reason);
  }

  Grid.root.addEventListener("click", (event) => {
    const button = event.target.closest("[data-rate]");
    if (!button) return;
    const cell = button.closest("[role=gridcell]");
    Grid.select(cell, false);
    rate(cell, button.dataset.rate);
  });
  bar.addEventListener("click", (event) => {
    const reason = event.target.closest("[data-reason]")?.dataset.reason;
    if (!reason) return;
    Grid.select(failed); // the keys go on from there
    rate(failed, "failure", reason);
  });

  Lightbox.dialog.addEventListener("lightbox-fill", (event) => show_large(event.detail));
  large.forEach((button) => button.addEventListener("click", () => rate(Lightbox.cell(), button.dataset.lightboxRate)));

  function key(event) {
    const cell = Lightbox.dialog.open ? Lightbox.cell() : Grid.current();
    if (event.key === "s") rate(cell, "success");
    else if (event.key === "f") rate(cell, "failure");
    else if (reasons[Number(event.key) - 1]) rate(cell, "failure", reasons[Number(event.key) - 1].dataset.reason);
    else if (event.key === "u") undo();
    else return;
    event.preventDefault();
  }

  People.onChange(() => load().catch((error) => People.say(error.message, true)));
  load().catch((error) => People.say(error.message, true));
  return { key, undo };
})();
