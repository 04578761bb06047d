// The page: what the server tells is shown, what a person does is asked for. Nothing is computed here.

import { Hand } from "./hand.js";
import { open } from "./line.js";
import { Moments } from "./moments.js";
import { draw } from "./pictures.js";
import { Trace } from "./trace.js";

const YOU = "you";
const THEMSELVES = [YOU, "planning in the dream"]; // all others are controllers
const byId = (id) => document.getElementById(id);
const page = { over: false, running: false, who: YOU };
const CHANCES = [[0, ""], [0.01, "1 %"], [0.1, "10 %"], [0.5, "50 %"], [1, "100 %"]];
const traces = {
  end: new Trace(byId("trace-end"), "--dream", CHANCES, Math.sqrt),
  reward: new Trace(byId("trace-reward"), "--real"),
};
const line = open(heard, closed);
let hand;
let moments;

// What the server tells.

function heard(head, pictures, rest) {
  const kinds = { hello: greeted, frame: framed, strip: stripped, peek: peeked, film: filmed, trouble: troubled };
  kinds[head.kind](head, pictures, rest);
}

function greeted(hello) {
  page.hello = hello;
  byId("what").textContent = `${hello.env} · ${hello.run}`;
  document.title = `${hello.env} · worldmodels`;
  document.documentElement.style.setProperty("--aspect", hello.aspect);
  for (const part of document.querySelectorAll(".dreamt")) part.hidden = !hello.dream;
  byId("film").hidden = !hello.films;
  hand = new Hand(hello, acted);
  moments = new Moments(line, hello);
  choices("who", hello.who, (name) => (THEMSELVES.includes(name) ? name : `C, ${name}`), (name) => line.ask("who", { name }));
  choices("ends", hello.ends.all, meaning, (value) => line.ask("ends", { value }));
  check("ends", hello.ends.value);
  byId("worlds-of").hidden = !(hello.worlds?.length > 1);
  choices("world", hello.worlds ?? [], (world) => worldly(world, hello.worlds), (value) => line.ask("world", { value }));
  check("world", "own");
  byId("speed").replaceChildren(...hello.speeds.map((speed) => new Option(`× ${speed}`, speed, false, speed === 1)));
  Object.assign(byId("tau"), { min: hello.tau.least, max: hello.tau.most, value: hello.tau.value });
  byId("tau-now").value = hello.tau.value;
}

function framed(head, pictures) {
  line.ask("shown");
  Object.assign(page, { over: head.over, running: head.running, who: head.who });
  for (const name of ["dream", "real", "seen"]) {
    byId(name).hidden = !(name in pictures);
    if (name in pictures) draw(byId(name).querySelector("canvas"), pictures[name]);
  }
  if (head.fresh) begun(head);
  if (head.dream) dreamt(head.dream, head.fresh);
  if (head.real) told("real", head.real, head.real.over && `Reality: ${head.real.over}`);
  if (head.running) byId("status").textContent = "";
  hand.show(head.action, head.who === YOU);
  byId("run").firstChild.textContent = head.over ? "New " : head.running ? "Pause " : "Go ";
  const filming = head.filmed !== null;
  byId("film").setAttribute("aria-pressed", filming);
  byId("film").textContent = filming ? `Stop (${head.filmed} frames)` : "Record";
  check("who", head.who);
}

/** An episode begins: what was before does not belong to it. */
function begun(head) {
  for (const trace of Object.values(traces)) trace.clear();
  byId("status").textContent = head.notes.join(" · ") || "Press an arrow key to play.";
  byId("trouble").hidden = true;
}

function dreamt(life, fresh) {
  const percent = `${Number((100 * life.end).toPrecision(2))} %`;
  told("dream", life, life.over && `The dream ends: ${life.over} (${percent})`);
  byId("end-now").textContent = percent;
  byId("reward-now").textContent = life.reward.toFixed(2);
  if (fresh || !life.steps) return;
  traces.end.add(life.end);
  traces.reward.add(life.reward);
  if (life.over) {
    byId("status").textContent = `The dream ended after ${life.steps} steps. Space begins another.`;
    moments.renew();
  }
}

/** A world's caption, and the curtain over it when it is over. */
function told(name, life, over) {
  const figure = byId(name);
  figure.querySelector(".told").textContent = `· step ${life.steps}, return ${Number(life.paid.toFixed(2))}`;
  const curtain = figure.querySelector(".curtain");
  curtain.hidden = !over;
  curtain.textContent = over || "";
}

function stripped(head, pictures) {
  moments.strip(head, pictures);
}

function peeked(head, pictures) {
  moments.peek(pictures);
}

function filmed(head, pictures, mp4) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([mp4], { type: "video/mp4" }));
  link.download = "dream.mp4";
  link.click();
  byId("status").textContent = "The film is saved as dream.mp4.";
}

function troubled(head) {
  byId("trouble").hidden = false;
  byId("trouble").textContent = head.text;
}

function closed(why) {
  if (byId("trouble").hidden) troubled({ text: why });
  page.running = false;
  byId("run").disabled = true;
}

// What a person does.

function acted(action) {
  line.ask("act", { action });
  if (!page.running && !page.over && page.who === YOU && hand.held.size) run(true);
}

function run(on) {
  if (on && page.over) line.ask("begin", { new: true });
  line.ask("run", { on });
}

function begin(anew) {
  line.ask("begin", { new: anew });
  line.ask("run", { on: page.running || page.over });
}

/** The next one acts: you, then each controller. */
function pass() {
  const { who } = page.hello;
  line.ask("who", { name: who[(who.indexOf(page.who) + 1) % who.length] });
}

function heat(value) {
  const { least, most } = page.hello.tau;
  const tau = Math.max(least, Math.min(most, Math.round(value * 100) / 100));
  byId("tau").value = tau;
  byId("tau-now").value = tau;
  line.ask("tau", { value: tau });
}

function film() {
  line.ask("film", { on: byId("film").getAttribute("aria-pressed") !== "true" });
}

const KEYS = {
  " ": () => run(!page.running),
  ".": () => line.ask("step"),
  r: () => begin(false),
  n: () => begin(true),
  c: pass,
  "[": () => heat(Number(byId("tau").value) - 0.05),
  "]": () => heat(Number(byId("tau").value) + 0.05),
};

const REPEATED = [".", "[", "]"]; // while they are held

document.addEventListener("keydown", (event) => {
  if (!hand || event.ctrlKey || event.altKey || event.metaKey) return;
  const here = document.activeElement;
  const key = event.key.toLowerCase();
  const arrow = key.startsWith("arrow");
  if (here.matches("select") || (arrow && here.matches("input"))) return; // they have a use for it
  if (key === " " && here.matches("button, summary, input")) return; // and these for space
  if (arrow ? !hand.pressed(event) : !(key in KEYS)) return;
  event.preventDefault();
  if (!arrow && (!event.repeat || REPEATED.includes(key))) KEYS[key]();
});
document.addEventListener("pointerup", () => {
  // after a touch or a click the keys are for the game again; the frame's own slider goes on by arrows
  setTimeout(() => {
    if (document.activeElement.matches("button, summary, input:not(#moment)")) document.activeElement.blur();
  });
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden && page.running) run(false); // nobody looks
});
byId("run").addEventListener("click", () => run(!page.running));
byId("step").addEventListener("click", () => line.ask("step"));
byId("again").addEventListener("click", () => begin(false));
byId("new").addEventListener("click", () => begin(true));
byId("film").addEventListener("click", film);
byId("tau").addEventListener("input", () => heat(Number(byId("tau").value)));
byId("speed").addEventListener("change", () => {
  line.ask("speed", { value: Number(byId("speed").value) });
  byId("speed").blur();
});

function meaning(end) {
  return { decided: "when M is sure", sampled: "with the predicted chance" }[end];
}

function worldly(world, among) {
  const own = among.includes("member 1") ? "in each episode another member's" : "M's own";
  return { own, new: "in each episode another: a tenth of what M knows is hidden" }[world] ?? `${world}'s`;
}

/** Fills an element with radio buttons; the first is chosen. */
function check(name, value) {
  for (const radio of document.getElementsByName(name)) radio.checked = radio.value === value;
}

function choices(id, values, named, chosen) {
  const labels = values.map((value) => {
    const label = document.createElement("label");
    const radio = Object.assign(document.createElement("input"), { type: "radio", name: id, value });
    radio.addEventListener("change", () => chosen(value));
    label.append(radio, named(value));
    return label;
  });
  byId(id).replaceChildren(...labels);
}
