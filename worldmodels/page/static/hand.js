// Your hand: keys, touch and sliders become an action, numbers in [-1, 1].

const ARROWS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down" };

export class Hand {
  /** `rest` is the action without a key, `keys` what each adds to it; `acts(action)` hears of every change. */
  constructor(hello, acts) {
    this.rest = hello.rest;
    this.keys = hello.keys;
    this.acts = acts;
    this.held = new Set();
    this.sliders = hello.rest.map((value, at) => slider(at, value, () => this.slid()));
    const whole = this.sliders.map(({ label }) => label);
    document.getElementById("numbers").replaceChildren(...whole);
    document.addEventListener("keyup", (event) => this.release(ARROWS[event.key]));
    window.addEventListener("blur", () => this.releaseAll());
    for (const button of document.querySelectorAll("[data-key]")) this.touched(button);
  }

  /** Whether this key was one of ours. */
  pressed(event) {
    const key = ARROWS[event.key];
    if (!(key in this.keys)) return false;
    this.press(key);
    return true;
  }

  touched(button) {
    const key = button.dataset.key;
    button.hidden = !(key in this.keys);
    button.addEventListener("pointerdown", (event) => {
      button.setPointerCapture(event.pointerId);
      this.press(key);
    });
    for (const end of ["pointerup", "pointercancel"]) button.addEventListener(end, () => this.release(key));
    button.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  press(key) {
    if (this.held.has(key)) return; // keys repeat
    this.held.add(key);
    this.changed();
  }

  release(key) {
    if (this.held.delete(key)) this.changed();
  }

  releaseAll() {
    if (this.held.size) {
      this.held.clear();
      this.changed();
    }
  }

  changed() {
    const action = this.rest.map((value, at) => {
      const added = [...this.held].reduce((sum, key) => sum + this.keys[key][at], value);
      return Math.max(-1, Math.min(1, added));
    });
    for (const button of document.querySelectorAll("[data-key]")) {
      button.classList.toggle("held", this.held.has(button.dataset.key));
    }
    this.acts(action);
  }

  /** What the sliders say is from now on what is done without a key. */
  slid() {
    this.rest = this.sliders.map(({ input }) => Number(input.value));
    this.changed();
  }

  /** Shows what is done, by whomever. */
  show(action, yours) {
    this.sliders.forEach(({ input, output }, at) => {
      if (document.activeElement !== input || !yours) input.value = action[at];
      input.disabled = !yours;
      output.value = action[at].toFixed(2);
    });
  }
}

function slider(at, value, slid) {
  const label = document.createElement("label");
  label.className = "slider";
  label.innerHTML = `<span>${at + 1}</span> <input type="range" min="-1" max="1" step="0.01"> <output></output>`;
  const [input, output] = [label.querySelector("input"), label.querySelector("output")];
  input.value = value;
  input.addEventListener("input", slid);
  return { label, input, output };
}
