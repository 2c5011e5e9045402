// A picture beside its photo, large: zoomed together, or one over the other with a slider.
const Lightbox = (() => {
  if (!Grid) return null;
  const dialog = Grid.section.querySelector("[data-lightbox]");
  const find = (name) => dialog.querySelector(`[data-lightbox-${name}]`);
  const panes = find("panes");
  let cell = null;
  let view = { zoom: 1, x: 0, y: 0 };

  function place(next) {
    view = next;
    if (view.zoom <= 1) view = { zoom: 1, x: 0, y: 0 };
    panes.style.setProperty("--zoom", view.zoom);
    panes.style.setProperty("--x", `${view.x}px`);
    panes.style.setProperty("--y", `${view.y}px`);
  }

  // What lies under (x, y), measured from the middle of a pane, stays there.
  function zoom(times, x = 0, y = 0) {
    const to = Math.min(Math.max(view.zoom * times, 1), 40);
    const ratio = to / view.zoom;
    place({ zoom: to, x: x - (x - view.x) * ratio, y: y - (y - view.y) * ratio });
  }

  function fact(list, name, value, tag = "dd") {
    if (value === null || value === undefined || value === "") return;
    const [term, text] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    const inner = tag === "dd" ? text : text.appendChild(document.createElement(tag));
    inner.textContent = value;
    if (tag === "a") {
      inner.href = value;
      inner.target = "_blank";
      inner.rel = "noopener";
    }
    list.append(term, text);
  }

  function picture(image, href, small, alt) {
    image.alt = alt;
    image.onerror = () => {
      image.onerror = null;
      if (small) image.src = small;
    };
    if (href || small) image.src = href || small;
    else image.removeAttribute("src");
  }

  function fill(next) {
    cell = next;
    const [r, c] = Grid.place(cell);
    const { data } = Grid;
    const [photo, item, strategy] = [data.photos[r], data.items[r][c], data.strategies[c]];
    find("title").textContent = `${photo.id}, ${strategy}`;
    find("place").textContent = item ? item.status : "not made";
    const small = (element) => element?.querySelector("img")?.getAttribute("src");
    picture(find("photo"), photo.href, small(cell.parentElement), `Photo ${photo.id}`);
    picture(find("picture"), item?.href, small(cell), `${photo.id} as ${strategy}`);
    const facts = find("facts");
    facts.replaceChildren();
    if (item) {
      fact(facts, "Why it failed", item.error);
      fact(facts, "Remark", item.remark);
      fact(facts, "Caption", item.caption);
      fact(facts, "Prompt", item.prompt);
      fact(facts, "Dropped", item.dropped, "del");
      fact(facts, "Seed", item.seed);
      data.metrics.forEach((metric, at) => {
        const value = item.values[at];
        const better = metric.higher ? "higher is better" : "lower is better";
        if (value !== null) fact(facts, metric.label, `${Number(value.toPrecision(6))} (${better})`);
      });
      fact(facts, "File", item.href, "a");
    }
    dialog.dispatchEvent(new CustomEvent("lightbox-fill", { detail: cell }));
  }

  function show(next) {
    place({ zoom: 1, x: 0, y: 0 });
    fill(next);
    if (!dialog.open) dialog.showModal();
  }

  function toggle() {
    const on = !panes.classList.contains("cut-mode");
    panes.classList.toggle("cut-mode", on);
    find("mode").setAttribute("aria-pressed", on);
    find("cut").hidden = !on;
  }

  const keys = {
    ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0],
  };
  dialog.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.matches("input")) return;
    const step = keys[event.key];
    if (step) fill(Grid.near(cell, ...step));
    else if (event.key === "+" || event.key === "=") zoom(1.25);
    else if (event.key === "-") zoom(0.8);
    else if (event.key === "0") place({ zoom: 1, x: 0, y: 0 });
    else if (event.key === "c") toggle();
    else return;
    event.preventDefault();
  });
  dialog.addEventListener("close", () => Grid.select(cell));
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  // For fingers: along the strategies, then to the next photo.
  function step(by) {
    const columns = Grid.data.strategies.length;
    const [, c] = Grid.place(cell);
    const to = c + by;
    if ((to < 0 || to >= columns) && Grid.near(cell, by, 0) === cell) return; // the first or last picture of all
    fill(to < 0 ? Grid.near(cell, -1, columns) : to >= columns ? Grid.near(cell, 1, -columns) : Grid.near(cell, 0, by));
  }
  for (const button of dialog.querySelectorAll("[data-lightbox-step]")) {
    button.addEventListener("click", () => step(Number(button.dataset.lightboxStep)));
  }
  find("close").addEventListener("click", () => dialog.close());
  find("mode").addEventListener("click", toggle);
  find("cut").addEventListener("input", (event) => panes.style.setProperty("--cut", `${event.target.value}%`));
  panes.addEventListener("wheel", (event) => {
    const box = event.target.closest(".pane")?.getBoundingClientRect();
    if (!box) return;
    zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15, event.clientX - box.x - box.width / 2, event.clientY - box.y - box.height / 2);
    event.preventDefault();
  }, { passive: false });
  panes.addEventListener("pointerdown", (event) => {
    panes.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  panes.addEventListener("pointermove", (event) => {
    if (panes.hasPointerCapture(event.pointerId)) {
      place({ zoom: view.zoom, x: view.x + event.movementX, y: view.y + event.movementY });
    }
  });
  panes.addEventListener("dblclick", () => (view.zoom > 1 ? place({ zoom: 1, x: 0, y: 0 }) : zoom(3)));
  Grid.section.addEventListener("grid-open", (event) => show(event.detail));

  return { dialog, cell: () => cell };
})();
