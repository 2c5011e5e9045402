// The grid of all pictures: keys, filter, order. What it knows of each picture stands in the page as JSON.
const Grid = (() => {
  const section = document.querySelector("[data-grid-section]");
  if (!section) return null;
  const store = section.querySelector("[data-grid-data]");
  const data = JSON.parse(store.textContent);
  store.remove();
  const find = (name) => section.querySelector(`[data-grid-${name}]`);
  const root = section.querySelector("[role=grid]");
  const heads = root.querySelector(".heads");
  const rows = [...root.querySelectorAll("[data-row]")];
  const cells = rows.map((row) => [...row.querySelectorAll("[role=gridcell]")]);
  const place = new Map();
  cells.forEach((line, r) => line.forEach((cell, c) => place.set(cell, [r, c])));
  for (const swatch of root.querySelectorAll("[data-color]")) swatch.style.background = swatch.dataset.color;
  let order = rows.map((_, r) => r); // as the rows stand now
  let shown = order;
  let current = cells.length && cells[0].length ? cells[0][0] : null;

  function select(cell, focus = true) {
    if (!cell) return;
    if (current) {
      current.tabIndex = -1;
      current.removeAttribute("aria-selected");
    }
    current = cell;
    cell.tabIndex = 0;
    cell.setAttribute("aria-selected", "true");
    if (focus) {
      cell.focus({ preventScroll: true });
      cell.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
  }

  // The cell so many rows and columns away, among those that are shown.
  function near(cell, down, right) {
    const [r, c] = place.get(cell);
    const at = Math.min(Math.max(shown.indexOf(r) + down, 0), shown.length - 1);
    const line = cells[shown[at]] || [];
    return line[Math.min(Math.max(c + right, 0), line.length - 1)];
  }

  const far = 1e6;
  const steps = {
    ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0],
    Home: [0, -far], End: [0, far], PageUp: [-4, 0], PageDown: [4, 0],
  };
  root.addEventListener("keydown", (event) => {
    const cell = event.target.closest("[role=gridcell]");
    if (!cell || event.altKey || event.metaKey) return;
    const step = steps[event.key];
    if (step) {
      const vertical = event.ctrlKey && step[0] === 0 ? Math.sign(step[1]) * far : step[0];
      select(near(cell, vertical, step[1]));
      event.preventDefault();
    } else if ((event.key === "Enter" || event.key === " ") && event.target === cell) {
      open(cell);
      event.preventDefault();
    }
  });
  root.addEventListener("focusin", (event) => {
    const cell = event.target.closest("[role=gridcell]");
    if (cell && cell !== current) select(cell, false);
    else if (cell) cell.setAttribute("aria-selected", "true");
  });
  root.addEventListener("click", (event) => {
    const cell = event.target.closest("[role=gridcell]");
    if (!cell || event.target.closest("button")) return;
    select(cell);
    open(cell);
  });

  function open(cell) {
    section.dispatchEvent(new CustomEvent("grid-open", { detail: cell }));
  }

  // Opens the picture of a photo under a strategy.
  function show(photo, strategy) {
    const r = data.photos.findIndex((entry) => entry.id === photo);
    const c = data.strategies.indexOf(strategy);
    if (r < 0 || c < 0) return;
    select(cells[r][c]);
    open(cells[r][c]);
  }

  function arrange() {
    const words = find("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const status = find("status").value;
    const fits = (r) => {
      const items = data.items[r].filter(Boolean);
      const text = [data.photos[r].id, ...items.flatMap((item) => [item.caption, item.prompt])].join("\n").toLowerCase();
      return words.every((word) => text.includes(word)) && (!status || items.some((item) => item.status === status));
    };
    const metric = find("metric").value;
    const [of, less] = [find("of").value, find("less").value];
    const of_column = (r, c) => data.items[r][c]?.values[metric] ?? null;
    const mean = (r) => {
      const known = data.strategies.map((_, c) => of_column(r, c)).filter((value) => value !== null);
      return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
    };
    const key = (r) => {
      const first = of === "" ? mean(r) : of_column(r, of);
      const second = less === "" ? 0 : of_column(r, less);
      return first === null || second === null ? null : first - second;
    };
    const way = find("way").dataset.down ? -1 : 1;
    order = rows.map((_, r) => r);
    if (metric !== "") {
      const keys = order.map(key);
      order.sort((a, b) => {
        if (keys[a] === null || keys[b] === null) return (keys[a] === null) - (keys[b] === null) || a - b;
        return way * (keys[a] - keys[b]) || a - b;
      });
    } else if (way < 0) {
      order.reverse();
    }
    shown = order.filter(fits);
    const kept = new Set(shown);
    rows.forEach((row, r) => { row.hidden = !kept.has(r); });
    root.append(heads, ...order.map((r) => rows[r]));
    find("count").textContent = `${shown.length} of ${rows.length} photos`;
    // Tab always finds a cell that is shown.
    if (current && shown.length && !kept.has(place.get(current)[0])) select(cells[shown[0]][0], false);
  }

  // Pictures are fetched before they come into view, while nothing else is to be done and nobody scrolls.
  const waiting = rows.flatMap((row) => [...row.querySelectorAll("img[loading=lazy]")]).slice(0, 3000);
  let [scrolled, coming] = [0, []];
  root.parentElement.addEventListener("scroll", () => { scrolled = performance.now(); }, { passive: true });
  function ahead() {
    // A few at a time: what is asked for meanwhile does not wait behind all of them.
    if (performance.now() - scrolled > 400 && coming.every((image) => image.complete)) {
      coming = waiting.splice(0, 6);
      coming.forEach((image) => { image.loading = "eager"; });
    }
    if (waiting.length) setTimeout(() => requestIdleCallback(ahead), 60);
  }
  if (window.requestIdleCallback) requestIdleCallback(ahead);

  find("tools").addEventListener("input", arrange);
  find("tools").addEventListener("submit", (event) => event.preventDefault());
  find("way").addEventListener("click", (event) => {
    const button = event.currentTarget;
    if (button.dataset.down) delete button.dataset.down;
    else button.dataset.down = "yes";
    button.textContent = button.dataset.down ? "↓" : "↑";
    button.setAttribute("aria-label", button.dataset.down ? "Order: descending" : "Order: ascending");
    arrange();
  });
  find("count").textContent = `${rows.length} photos`;
  for (const spot of document.querySelectorAll(".spot")) {
    spot.addEventListener("click", () => show(spot.dataset.spotPhoto, spot.dataset.spotStrategy));
  }

  return {
    section, root, data, cells, select, near,
    place: (cell) => place.get(cell),
    current: () => current,
  };
})();
