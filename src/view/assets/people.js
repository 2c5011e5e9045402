// Who judges, and the way of an answer to the disk: one after the other, each shown only when it is there.
const People = (() => {
  const input = document.querySelector("[data-rater]");
  const said = document.querySelector("[data-said]");
  const key = "toolkit-rater";
  const listeners = [];
  let queue = Promise.resolve();

  function say(text, wrong = false) {
    said.textContent = text;
    said.classList.toggle("wrong", wrong);
  }

  function rater() {
    return input.value.trim();
  }

  // A name of one's own from the start, so that nobody is taken for another; it can be changed.
  function stored() {
    try {
      return localStorage.getItem(key);
    } catch {
      return null;
    }
  }
  const random = () => `rater-${[...crypto.getRandomValues(new Uint8Array(3))].map((b) => b.toString(16).padStart(2, "0")).join("")}`;
  input.value = stored() || random();
  if (!stored()) say("Give your name before you start: your answers are kept under it.");
  function keep() {
    if (!rater()) input.value = random();
    try {
      localStorage.setItem(key, rater());
    } catch {
      // Without storage the name lasts as long as the page.
    }
  }
  keep();
  input.addEventListener("change", () => {
    keep();
    say(`You answer as ${rater()}.`);
    listeners.forEach((listener) => listener());
  });

  async function ask(path, options) {
    const response = await fetch(path, options);
    const text = await response.text();
    let body = null;
    try {
      body = JSON.parse(text);
    } catch {
      body = { error: text.trim() };
    }
    if (!response.ok) throw new Error(body?.error || `status ${response.status}`);
    return body;
  }

  function get(path, query = {}) {
    return ask(`${path}?${new URLSearchParams({ rater: rater(), ...query })}`);
  }

  // Answers are sent in their order; what is not on disk is said.
  function post(path, answer) {
    const body = JSON.stringify({ rater: rater(), ...answer });
    const send = () => ask(path, { method: "POST", headers: { "content-type": "application/json" }, body });
    const sent = queue.then(send);
    queue = sent.catch(() => {});
    return sent.catch((error) => {
      say(`Not saved: ${error.message}`, true);
      throw error;
    });
  }

  return { rater, say, get, post, onChange: (listener) => listeners.push(listener) };
})();
